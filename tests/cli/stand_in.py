"""A stand-in for the model, and photos for it."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from hrn_opt.errors import FaceNotThere, NoFaceFound, OptionInvalid
from hrn_opt.types import (
    Box,
    Camera,
    Face,
    Mesh,
    Reconstruction,
    Stage,
    StageEvent,
    StageTiming,
    UVTexture,
)

ROOT = Path(__file__).parents[2]


class FakeModel:
    """Answers as a model does; the red of a photo's corner says how many faces it has (see save_photo)."""

    name = "fake"
    device, precision = "cuda:1", "fp16"

    def __init__(self):
        self.asked = []
        self.finds = 0

    def find(self, photo):
        self.finds += 1
        count = int(photo.rgb[0, 0, 0]) // 50
        if not count:
            raise NoFaceFound("No face found; use a photo with one face over 100 px wide.")
        return tuple(Face(Box(k, 1, 60 + k, 50), torch.zeros(5, 2), 1 - k / 10) for k in range(count))

    def stream(self, photo, face=0, want="mesh", texture_size=1024, stop=None, faces=None):
        self.asked.append((photo.name, face, want, texture_size))
        if not 512 <= texture_size <= 4096:
            raise OptionInvalid(f"texture_size={texture_size} is outside 512 to 4096.")
        if face >= len(faces):
            raise FaceNotThere(f"There is no face {face} among {len(faces)}.")
        yield StageEvent(Stage.SHAPE, 0.5, 0.25)
        corner = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
        normals = torch.tensor([[0.0, 0, 1]]).repeat(3, 1)
        mesh = None if want == "texture" else Mesh(corner, torch.tensor([[0, 1, 2]]), normals, corner[:, :2])
        size = 8  # what is asked for is recorded above; a small one keeps the tests quick
        texture = UVTexture(np.full((size, size, 3), 100 + face, np.uint8), np.zeros((size, size), np.uint8))
        timings = (StageTiming(Stage.SHAPE, 0.25), StageTiming(Stage.TEXTURE, 0.125))
        done = Reconstruction(self.name, photo.name, face, faces[face], texture, Camera(torch.eye(4)), mesh, timings)
        yield StageEvent(Stage.ASSEMBLE, 1.0, 0.125, reconstruction=done)


def save_photo(path, faces=1):
    rgb = np.full((80, 120, 3), 90, np.uint8)
    rgb[0, 0, 0] = 50 * faces + 20
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb).save(path)
    return str(path)


def names(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []
