"""Pictures of a textured mesh: laid over the photo, or turned in front of a plain background."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from hrn_opt.geometry.raster import interpolate, rasterize
from hrn_opt.types import Camera, Mesh, UVTexture

BACKGROUND_RGB = (244, 244, 246)
SUPERSAMPLING = 2
FILL = 0.86  # of the picture that the face takes


def render(mesh: Mesh, texture: UVTexture, camera: Camera, size_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """What the camera sees of the mesh, unlit, one sample a pixel: ((H, W, 3) float32 in 0..255, (H, W) bool)."""
    fragments = rasterize(camera.project(mesh.vertices), mesh.faces, size_hw)
    uv = interpolate(fragments, mesh.uv, mesh.faces)  # (H, W, 2)
    image = torch.from_numpy(texture.rgb).permute(2, 0, 1)[None].float()
    grid = torch.stack([2 * uv[..., 0] - 1, 1 - 2 * uv[..., 1]], -1)[None]
    colour = F.grid_sample(image, grid, padding_mode="border", align_corners=False)[0]
    return colour.permute(1, 2, 0), fragments.covered


def portrait(mesh: Mesh, texture: UVTexture, yaw_rad: float, size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8: the face alone, turned by yaw (positive to the picture's right), antialiased."""
    fine_hw = (size_hw[0] * SUPERSAMPLING, size_hw[1] * SUPERSAMPLING)
    colour, covered = render(mesh, texture, _portrait_camera(mesh, yaw_rad, fine_hw), fine_hw)
    background = torch.tensor(BACKGROUND_RGB, dtype=torch.float32)
    picture = torch.where(covered[..., None], colour, background).permute(2, 0, 1)
    return F.avg_pool2d(picture[None], SUPERSAMPLING)[0].permute(1, 2, 0).round().byte().numpy()


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
