"""A photo of a face in, a textured 3D face out.

>>> import hrn_opt
>>> result = hrn_opt.load().reconstruct("selfie.jpg")
>>> hrn_opt.export.write(result, "out")
"""

from hrn_opt import export
from hrn_opt.errors import HrnOptError
from hrn_opt.loading import load
from hrn_opt.photo import open_photo
from hrn_opt.pipeline import Reconstructor
from hrn_opt.types import Camera, Face, Mesh, Photo, Reconstruction, Stage, StageEvent, UVTexture, Want

__version__ = "0.1.0"

__all__ = [
    "Camera",
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
