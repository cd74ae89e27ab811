"""The fitted texture at any size: its own colours, and above its resolution the photo's detail.

    texture = enlarge(fitted) + blend_weight · (own − enlarge(shrink(own)))

where own is the photo at each texel, enlarge is bilinear, and shrink brings own to the fitted texture's 256 px: only
what 256 px cannot hold is taken from the photo, so the two agree wherever they meet and no seam can show.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from hrn_opt.geometry.projection import (
    CROP_PX_PER_TEXEL,
    VISIBILITY_SLACK,
    PhotoPatch,
    bands,
    fade,
    in_sight,
    inside_photo,
    photo_patch,
    texels_per_px,
)
from hrn_opt.geometry.raster import Fragments
from hrn_opt.geometry.uv import UVRaster, blur, erode, resample_rows
from hrn_opt.hrn.align.face_crop import Placement
from hrn_opt.hrn.frames import UV_PX
from hrn_opt.types import UVTexture

RASTER_PX = 512
FACING_FADE = (0.25, 0.55)  # cosine to the viewer: a texel seen at a slant shows a smear, not detail
FEATHER_TEXELS = 2  # of UV_PX


@dataclass(frozen=True)
class PhotoView:
    """How the photo shows one face, all on the CPU.

    screen: (N, 3) vertices as crop x, crop y, depth.
    fragments: what the crop's pixels show.
    placement, photo_size_hw: where the crop lies in the photo.
    facing: (256, 256) cosine to the viewer.
    skin: (256, 256) 0..1, where the photo shows skin.
    """

    screen: Tensor
    fragments: Fragments
    placement: Placement
    photo_size_hw: tuple[int, int]
    facing: Tensor
    skin: Tensor

    def to_photo(self, crop_xy: Tensor) -> Tensor:
        return self.placement.to_photo(crop_xy, self.photo_size_hw)


def upsample_texture(
    photo_rgb: np.ndarray, view: PhotoView, triangles: Tensor, uv: Tensor, raster: UVRaster, fitted: Tensor, size: int
) -> UVTexture:
    """The (size, size) texture of a face.

    photo_rgb: (height, width, 3) uint8.
    triangles: (F, 3).
    uv: (N, 2).
    raster: of uv, RASTER_PX a side.
    fitted: (3, 256, 256) float32 RGB about 0..1, on the CPU.
    """
    crop_maps = raster.interpolate(view.screen)  # (3, 512, 512) crop x, crop y, depth
    photo_xy = view.to_photo(crop_maps[:2].permute(1, 2, 0)).permute(2, 0, 1)
    photo_points = view.to_photo(view.screen[:, :2])
    blend_weight = _blend_weight(view, crop_maps, photo_xy)
    zoom = texels_per_px(photo_points, triangles, uv, 1)
    coarse = photo_patch(photo_rgb, photo_points, zoom * UV_PX)
    smooth = fitted * 255 - blend_weight * coarse.sample(resample_rows(photo_xy, UV_PX, 0, UV_PX))  # (3, 256, 256)
    patch = photo_patch(photo_rgb, photo_points, CROP_PX_PER_TEXEL * zoom * size)
    rgb, visibility = np.empty((size, size, 3), np.uint8), np.empty((size, size), np.uint8)
    low = torch.cat([smooth, blend_weight[None]])  # (4, 256, 256)
    for start, stop in bands(size):
        rgb[start:stop], visibility[start:stop] = _rows(patch, photo_xy, low, size, start, stop)
    return UVTexture(rgb, visibility)


def _rows(
    patch: PhotoPatch, photo_xy: Tensor, low: Tensor, size: int, start: int, stop: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    own = patch.sample(resample_rows(photo_xy, size, start, stop))  # (3, R, size)
    maps = resample_rows(low, size, start, stop)
    colour = maps[:3].addcmul_(own, maps[3:]).round_().clamp_(0, 255).to(torch.uint8)
    return colour.permute(1, 2, 0).numpy(), (maps[3] * 255).round_().to(torch.uint8).numpy()


def _blend_weight(view: PhotoView, crop_maps: Tensor, photo_xy: Tensor) -> Tensor:
    """(256, 256) in 0..1: how far the photo's detail may be taken."""
    depth = crop_maps[2:]
    near, far = view.screen[:, 2].aminmax()
    visibility = in_sight(view.fragments, crop_maps[:2], depth, VISIBILITY_SLACK * float(far - near))
    visibility = F.avg_pool2d(visibility * inside_photo(photo_xy, view.photo_size_hw), RASTER_PX // UV_PX)[0]
    visibility = visibility * fade(view.facing, *FACING_FADE)
    return blur(erode(visibility, FEATHER_TEXELS)[None], FEATHER_TEXELS)[0] * view.skin
