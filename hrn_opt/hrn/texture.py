"""The fitted texture at any size: its own colours, and above its resolution the photo's detail.

    texture = enlarge(fitted) + trust · (own − enlarge(shrink(own)))

where own is the photo at each texel and shrink brings it to the fitted texture's 256 px: only what 256 px cannot hold
is taken from the photo, so the two agree wherever they meet and no seam can show.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hrn_opt.hrn.unwrap import UV_PX
from hrn_opt.projection import (
    CROP_PX_PER_TEXEL,
    PhotoPatch,
    bands,
    fade,
    inside_photo,
    photo_patch,
    texels_per_px,
    visible,
)
from hrn_opt.types import Camera, Mesh, UVTexture
from hrn_opt.uvmap import UVLayout, blur, erode, resample_rows

LAYOUT_PX = 512
FACING_FADE = (0.25, 0.55)  # cosine to the viewer: a texel seen at a slant shows a smear, not detail
FEATHER_TEXELS = 2  # of UV_PX


def enlarge(
    photo_rgb: np.ndarray, mesh: Mesh, camera: Camera, layout: UVLayout, fitted: Tensor, seen: Tensor, size: int
) -> UVTexture:
    """The (size, size) texture of a face.

    photo_rgb: (height, width, 3) uint8.   mesh, camera: lay the face over it.   layout: of mesh.uv, LAYOUT_PX a side.
    fitted: (3, 256, 256) float32 RGB about 0..1.   seen: (256, 256) 0..1, where the photo shows skin. All on the CPU.
    """
    photo_points = camera.project(mesh.vertices)  # (N, 3)
    maps = layout.interpolate(torch.cat([photo_points, _facing(mesh, camera)], 1))  # (4, 512, 512)
    photo_xy = maps[:2]
    trust = _trust(photo_points, mesh, maps, seen, photo_rgb.shape[:2])
    coarse = photo_patch(photo_rgb, photo_points, texels_per_px(photo_points, mesh.faces, mesh.uv, UV_PX))
    smooth = fitted * 255 - trust * coarse.sample(resample_rows(photo_xy, UV_PX, 0, UV_PX))  # (3, 256, 256)
    zoom = CROP_PX_PER_TEXEL * texels_per_px(photo_points, mesh.faces, mesh.uv, size)
    patch = photo_patch(photo_rgb, photo_points, zoom)
    rgb, shown = np.empty((size, size, 3), np.uint8), np.empty((size, size), np.uint8)
    low = torch.cat([smooth, trust[None]])  # (4, 256, 256)
    for start, stop in bands(size):
        rgb[start:stop], shown[start:stop] = _rows(patch, photo_xy, low, size, start, stop)
    return UVTexture(rgb, shown)


def _rows(patch: PhotoPatch, photo_xy: Tensor, low: Tensor, size: int, start: int, stop: int):
    own = patch.sample(resample_rows(photo_xy, size, start, stop))  # (3, R, size)
    maps = resample_rows(low, size, start, stop)
    colour = maps[:3].addcmul_(own, maps[3:]).round_().clamp_(0, 255).to(torch.uint8)
    return colour.permute(1, 2, 0).numpy(), (maps[3] * 255).round_().to(torch.uint8).numpy()


def _trust(photo_points: Tensor, mesh: Mesh, maps: Tensor, seen: Tensor, photo_size_hw: tuple[int, int]) -> Tensor:
    """(256, 256) in 0..1: how far the photo's detail may be taken."""
    shown = visible(photo_points, mesh.faces, maps[:2], maps[2:3]) * inside_photo(maps[:2], photo_size_hw)
    shown = F.avg_pool2d(shown * fade(maps[3:], *FACING_FADE), LAYOUT_PX // UV_PX)[0]
    return blur(erode(shown, FEATHER_TEXELS)[None], FEATHER_TEXELS)[0] * seen


def _facing(mesh: Mesh, camera: Camera) -> Tensor:
    """(N, 1) cosine between each normal and the direction to the viewer, who stands where the camera's w is 0."""
    matrix = camera.matrix.double()
    eye = torch.linalg.solve(matrix[[0, 1, 3], :3], -matrix[[0, 1, 3], 3]).float()
    towards = F.normalize(eye - mesh.vertices, dim=1)
    return (mesh.normals * towards).sum(1, keepdim=True)
