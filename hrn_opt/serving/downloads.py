"""The files a visitor takes home."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

from hrn_opt import export
from hrn_opt.types import Reconstruction


@dataclass(frozen=True)
class Downloads:
    """texture: PNG.   scene: GLB with the texture inside.   obj_zip: OBJ, MTL and their PNG."""

    texture: Path
    scene: Path
    obj_zip: Path


def write_downloads(reconstruction: Reconstruction, folder: Path) -> Downloads:
    """All downloads, named after the photo, written into `folder`."""
    by_ending = {path.suffix: path for path in export.write(reconstruction, folder)}
    obj_zip = by_ending[".obj"].with_suffix(".zip")
    with zipfile.ZipFile(obj_zip, "w", zipfile.ZIP_DEFLATED) as archive:
        for ending in (".obj", ".mtl"):
            archive.write(by_ending[ending], by_ending[ending].name)
        archive.write(by_ending[".png"], by_ending[".png"].name, zipfile.ZIP_STORED)  # already compressed
    return Downloads(by_ending[".png"], by_ending[".glb"], obj_zip)
