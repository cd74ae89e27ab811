"""The files a visitor takes home, named after the photo."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from hrn_opt.output import export
from hrn_opt.output.names import safe_stem
from hrn_opt.output.views import overlay
from hrn_opt.serving.jobs import Downloads
from hrn_opt.types import Photo, Reconstruction

_COMPRESSED = (".png", ".webp", ".jpg", ".glb")  # a GLB is a PNG, or small: zipping either again costs only time
_JPEG_QUALITY = 92


def write_downloads(
    reconstruction: Reconstruction,
    folder: Path,
    photo: Photo | None = None,
    formats: tuple[str, ...] | None = None,
) -> Downloads:
    """The files of these formats, written into `folder`; without formats all that the reconstruction has.

    The overlay, and the zip of everything, are made where no formats are named; the overlay needs the photo.
    """
    stem = safe_stem(reconstruction.photo_name)
    written = export.write(reconstruction, folder, formats or _formats_of(reconstruction), stem)
    files = {_kind(path, stem): path for path in written}
    if formats is None:
        if photo is not None and reconstruction.mesh is not None:
            files["overlay"] = folder / f"{stem}.overlay.jpg"
            Image.fromarray(overlay(photo, reconstruction)).save(files["overlay"], quality=_JPEG_QUALITY)
        files["everything"] = _zipped(folder / f"{stem}.everything.zip", files.values())
    if "obj" in files:
        files["obj_zip"] = _zipped(folder / f"{stem}.zip", (files.pop("obj"), files.pop("mtl"), files["texture"]))
    return Downloads(**files)


def _formats_of(reconstruction: Reconstruction) -> list[str]:
    formats = ["png"]
    if reconstruction.mesh is not None:
        formats += ["glb", "clay", "obj"]
    if reconstruction.detail is not None:
        formats += ["normal", "displacement", "lit", "dense"]
    if reconstruction.turntable is not None:
        formats.append("turntable")
    return formats


def _kind(path: Path, stem: str) -> str:
    """What Downloads calls the file: `stem.png` is its texture, `stem.displacement_20mm.png` its displacement."""
    first, *rest = path.name.removeprefix(f"{stem}.").split(".")
    return first.split("_")[0] if rest else {"png": "texture", "glb": "scene"}.get(first, first)


def _zipped(path: Path, files: Iterable[Path]) -> Path:
    with zipfile.ZipFile(path, "w", compresslevel=1) as archive:
        for file in files:
            packing = zipfile.ZIP_STORED if file.suffix in _COMPRESSED else zipfile.ZIP_DEFLATED
            archive.write(file, file.name, packing)
    return path
