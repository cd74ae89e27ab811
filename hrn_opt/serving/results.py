"""One face's result as files: those to take home, and the pictures that the page shows of it."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from hrn_opt.output.outlines import LONGEST_PX
from hrn_opt.output.views import displacement_view
from hrn_opt.photo.resize import resize_longest
from hrn_opt.serving.downloads import write_downloads
from hrn_opt.serving.jobs import FaceMade, StageCost
from hrn_opt.types import Photo, Reconstruction

_JPEG_QUALITY = 92
_MARGIN = 0.5  # of the face's box, on every side


def write_face(
    reconstruction: Reconstruction,
    folder: Path,
    photo: Photo,
    number: int = 1,
    costs: Sequence[StageCost] = (),
    formats: tuple[str, ...] | None = None,
) -> FaceMade:
    """The face's files of these formats, in `folder`; without formats everything that the page shows and offers.

    number: which face of the photo it is, from 1.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    files = write_downloads(reconstruction, folder, photo, formats)
    made = FaceMade(number, files, tuple(costs), reconstruction.advice)
    if formats is not None:
        return made
    shown = folder / "view"
    shown.mkdir(mode=0o700)
    if files.overlay is not None:
        before, after = _close_ups(reconstruction, files.overlay, photo, shown)
        made = replace(made, before=before, after=after)
    if reconstruction.detail is not None:
        view = shown / "displacement.png"
        Image.fromarray(displacement_view(reconstruction.detail.displacement_map)).save(view)
        made = replace(made, displacement_view=view)
    return made


def _close_ups(reconstruction: Reconstruction, overlay: Path, photo: Photo, folder: Path) -> tuple[Path, Path]:
    """The face in the photo and on the overlay, with some of what is round it."""
    scale = min(1.0, LONGEST_PX / max(photo.size_hw))
    box = reconstruction.face.box
    margin = _MARGIN * max(box.width, box.height)
    corners = (box.left - margin, box.top - margin, box.right + margin, box.bottom + margin)
    pictures = {"before": Image.fromarray(resize_longest(photo.rgb, LONGEST_PX)), "after": Image.open(overlay)}
    paths = []
    for name, picture in pictures.items():
        limits = (picture.width, picture.height)
        low = [max(0, round(value * scale)) for value in corners[:2]]
        high = [min(limit, round(value * scale)) for value, limit in zip(corners[2:], limits, strict=True)]
        paths.append(folder / f"{name}.jpg")
        picture.crop((low[0], low[1], high[0], high[1])).save(paths[-1], quality=_JPEG_QUALITY)
    return paths[0], paths[1]


def zip_of_all(faces: Sequence[FaceMade], path: Path) -> Path:
    """The faces' files in one zip, a folder each; the files that `write_downloads` would zip of each alone."""
    with zipfile.ZipFile(path, "w") as archive:
        for count, face in enumerate(faces, 1):
            assert face.files.everything is not None, "it is made where no formats are named"
            with zipfile.ZipFile(face.files.everything) as own:
                for name in own.namelist():
                    archive.writestr(f"face{count}/{name}", own.read(name))
    return path
