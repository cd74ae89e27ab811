"""Pictures of a textured mesh: laid over the photo, or turned in front of a plain background."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from hrn_opt.geometry.raster import seen_pixels
from hrn_opt.types import Camera, Mesh, UVTexture

BACKGROUND_RGB = (244, 244, 246)
SUPERSAMPLING = 2
FILL = 0.86  # of the picture that the face takes


def render(mesh: Mesh, texture: UVTexture, camera: Camera, size_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """What the camera sees of the mesh, unlit, one sample a pixel: ((H, W, 3) float32 in 0..255, (H, W) bool).

    Where nothing is seen the colour is BACKGROUND_RGB.
    """
    return _rendered(mesh, image_of(texture), camera, size_hw)


def image_of(texture: UVTexture) -> Tensor:
    """(1, 3, S, S) float32 in 0..255, as pictures are sampled from."""
    return torch.from_numpy(texture.rgb).permute(2, 0, 1)[None].float()


def portrait(mesh: Mesh, image: Tensor, yaw_rad: float, size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8: the face alone, turned by yaw (positive to the picture's right), antialiased.

    image: of `image_of`.
    """
    fine_hw = (size_hw[0] * SUPERSAMPLING, size_hw[1] * SUPERSAMPLING)
    colour, _ = _rendered(mesh, image, _portrait_camera(mesh, yaw_rad, fine_hw), fine_hw)
    picture = F.avg_pool2d(colour.permute(2, 0, 1)[None], SUPERSAMPLING)[0]
    return picture.permute(1, 2, 0).round().byte().numpy()


def _rendered(mesh: Mesh, image: Tensor, camera: Camera, size_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """As `render`; only the pixels that see the face are worked on, half the picture."""
    seen = seen_pixels(camera.project(mesh.vertices), mesh.faces, size_hw)
    uv = seen.interpolate(mesh.uv, mesh.faces)  # (P, 2)
    grid = torch.stack([2 * uv[:, 0] - 1, 1 - 2 * uv[:, 1]], -1)[None, None]
    sampled = F.grid_sample(image, grid, padding_mode="border", align_corners=False)[0, :, 0]  # (3, P)
    colour = torch.tensor(BACKGROUND_RGB, dtype=torch.float32)[:, None].repeat(1, size_hw[0] * size_hw[1])
    colour.index_copy_(1, seen.pixel, sampled)
    covered = torch.zeros(size_hw[0] * size_hw[1], dtype=torch.bool)
    covered[seen.pixel] = True
    return colour.view(3, *size_hw).permute(1, 2, 0), covered.view(size_hw)


def _portrait_camera(mesh: Mesh, yaw_rad: float, size_hw: tuple[int, int]) -> Camera:
    """Orthographic, framing the unturned face's height, turned round the middle of its depth."""
    low, high = mesh.vertices.amin(0), mesh.vertices.amax(0)
    scale = FILL * min(size_hw[0] / float(high[1] - low[1]), size_hw[1] / float((high - low)[[0, 2]].norm()))
    cosine, sine = math.cos(yaw_rad), math.sin(yaw_rad)
    turn = torch.tensor([[cosine, 0, sine], [0, 1, 0], [-sine, 0, cosine]])
    to_picture = scale * torch.tensor([1.0, -1.0, -1.0])[:, None] * turn
    matrix = torch.eye(4)
    matrix[:3, :3] = to_picture
    matrix[:3, 3] = torch.tensor([size_hw[1] / 2, size_hw[0] / 2, 0]) - to_picture @ ((low + high) / 2)
    return Camera(matrix)
