"""One face's result as files, and what the widgets show of it."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from hrn_opt.output.views import LONGEST_PX, displacement_view
from hrn_opt.photo.resize import resize_longest
from hrn_opt.types import Photo, Reconstruction
from hrn_opt.web.downloads import Downloads, write_downloads
from hrn_opt.web.progress import Cost
from hrn_opt.web.words import say

_JPEG_QUALITY = 92
_MARGIN = 0.5  # of the face's box, on every side


@dataclass(frozen=True)
class Result:
    """files: to take home.

    before, after: JPEGs of the face in the photo, and of the mesh laid over it.

    displacement: PNG that people can see.
    """

    files: Downloads
    before: Path | None
    after: Path | None
    displacement: Path | None
    costs: tuple[Cost, ...]

    def maps(self, language: str) -> list[tuple[str, str]]:
        """Picture and name, as a gallery wants them."""
        paths = {"map_normal": self.files.normal, "map_displacement": self.displacement}
        return [(str(path), say(language, key)) for key, path in paths.items() if path is not None]


def write_result(reconstruction: Reconstruction, folder: Path, photo: Photo, costs: Sequence[Cost]) -> Result:
    """Everything that the page shows and offers, in `folder`."""
    folder.mkdir(mode=0o700, exist_ok=True)
    files = write_downloads(reconstruction, folder, photo)
    shown = folder / "view"
    shown.mkdir(mode=0o700)
    before, after = (None, None) if files.overlay is None else _close_ups(reconstruction, files.overlay, photo, shown)
    displacement = None
    if reconstruction.detail is not None:
        displacement = shown / "displacement.png"
        Image.fromarray(displacement_view(reconstruction.detail.displacement_map)).save(displacement)
    return Result(files, before, after, displacement, tuple(costs))


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


def zip_of_all(results: Sequence[Result], path: Path) -> Path:
    """The faces' zips in one, a folder each."""
    with zipfile.ZipFile(path, "w") as archive:
        for number, result in enumerate(results, 1):
            with zipfile.ZipFile(result.files.everything) as own:
                for name in own.namelist():
                    archive.writestr(f"face{number}/{name}", own.read(name))
    return path
