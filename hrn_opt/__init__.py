"""A photo of a face in, a textured 3D face out.

>>> import hrn_opt
>>> result = hrn_opt.load().reconstruct("selfie.jpg")
>>> hrn_opt.export.write(result, "out")
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hrn_opt.errors import HrnOptError
    from hrn_opt.loading import load
    from hrn_opt.output import export
    from hrn_opt.photo import open_photo
    from hrn_opt.pipeline import Reconstructor
    from hrn_opt.types import Camera, DetailMaps, Face, Mesh, Photo, Reconstruction, Stage, StageEvent, UVTexture, Want

__version__ = "0.1.0"

# Name → where it is defined; imported when first asked for, so that `--help` needs no torch.
_HOMES = {
    "HrnOptError": "errors",
    "load": "loading",
    "open_photo": "photo",
    "Reconstructor": "pipeline",
    **dict.fromkeys(
        ("Camera", "DetailMaps", "Face", "Mesh", "Photo", "Reconstruction", "Stage", "StageEvent", "UVTexture", "Want"),
        "types",
    ),
}

__all__ = [
    "Camera",
    "DetailMaps",
    "Face",
    "HrnOptError",
    "Mesh",
    "Photo",
    "Reconstruction",
    "Reconstructor",
    "Stage",
    "StageEvent",
    "UVTexture",
    "Want",
    "export",
    "load",
    "open_photo",
]


def __getattr__(name: str) -> object:
    if name == "export":
        return import_module("hrn_opt.output.export")
    if name in _HOMES:
        return getattr(import_module(f"hrn_opt.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'hrn_opt' has no attribute {name!r}")
