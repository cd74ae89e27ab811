"""The files a visitor takes home, named after the photo."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from hrn_opt.output import export
from hrn_opt.output.views import overlay
from hrn_opt.types import Photo, Reconstruction

_COMPRESSED = (".png", ".webp", ".jpg", ".glb")  # a GLB is a PNG, or small: zipping either again costs only time
_JPEG_QUALITY = 92


@dataclass(frozen=True)
class Downloads:
    """texture: PNG.

    everything: a zip of all the other files. None: what the reconstruction does not have.

    scene: GLB with the texture inside, unlit.
    clay: GLB, grey, lit.
    obj_zip: OBJ, MTL and their PNG.
    overlay: JPEG of the mesh over the photo.
    normal: PNG; displacement: 16-bit PNG; lit: GLB with the normal map;
    dense: GLB of the displaced surface, with detail.
    turntable: animated WebP.
    """

    texture: Path
    everything: Path
    scene: Path | None = None
    clay: Path | None = None
    obj_zip: Path | None = None
    overlay: Path | None = None
    normal: Path | None = None
    displacement: Path | None = None
    lit: Path | None = None
    dense: Path | None = None
    turntable: Path | None = None


def write_downloads(reconstruction: Reconstruction, folder: Path, photo: Photo | None = None) -> Downloads:
    """All that the reconstruction has, written into `folder`; the overlay too where its photo is given."""
    stem = export.safe_stem(reconstruction.photo_name)
    written = export.write(reconstruction, folder, _formats_of(reconstruction), stem)
    files = {_kind(path, stem): path for path in written}
    if photo is not None and reconstruction.mesh is not None:
        files["overlay"] = folder / f"{stem}.overlay.jpg"
        Image.fromarray(overlay(photo, reconstruction)).save(files["overlay"], quality=_JPEG_QUALITY)
    everything = _zipped(folder / f"{stem}.everything.zip", files.values())
    if "obj" in files:
        files["obj_zip"] = _zipped(folder / f"{stem}.zip", (files.pop("obj"), files.pop("mtl"), files["texture"]))
    return Downloads(everything=everything, **files)


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
