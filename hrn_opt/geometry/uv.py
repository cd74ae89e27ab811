"""A UV layout rasterised once, and the maps that live on it: interpolation, resampling, filling of holes.

Maps are (C, H, W) float32, row 0 at v = 1. Positions over a face are smooth, so they are interpolated on a layout of
moderate size and resampled to the texture's: one layout serves every texture size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from hrn_opt.geometry.raster import rasterize
from hrn_opt.geometry.sparse import SparseMap

GUTTER_TEXELS = 4  # so that resampling at the layout's rim, and across its slits, mixes in no empty texel


@dataclass(frozen=True)
class UVRaster:
    """Which vertices each texel lies between.

    size: texels a side.
    map: from vertices (N, C) to texels (size², C); 0 far from any triangle, and continued by a neighbouring triangle's
    rim over a gutter of a few texels.
    covered: (size, size) bool, the gutter left out.
    """

    size: int
    map: SparseMap
    covered: Tensor

    def interpolate(self, values: Tensor) -> Tensor:
        """(C, size, size) of per-vertex values (N, C)."""
        return self.map(values).T.reshape(-1, self.size, self.size)


def rasterize_uv(uv: Tensor, faces: Tensor, size: int) -> UVRaster:
    """The layout of a mesh with one UV per vertex.

    uv: (N, 2) in 0..1, v up.
    faces: (F, 3) int64.
    """
    points = torch.stack([uv[:, 0] * size, (1 - uv[:, 1]) * size, torch.zeros_like(uv[:, 0])], 1)
    fragments = rasterize(points, faces, (size, size))
    triangle = _grown(fragments.triangle, GUTTER_TEXELS).flatten()
    mapped = triangle >= 0
    texel = mapped.nonzero().squeeze(1)
    corners = faces[triangle[texel]]  # (T, 3)
    weights = fragments.barycentric.view(-1, 3)[texel]
    gutter = ~fragments.covered.flatten()[texel]
    weights[gutter] = _rim_weights(points[corners[gutter], :2], texel[gutter], size)
    offsets = 3 * (mapped.cumsum(0) - mapped.long())
    return UVRaster(size, SparseMap(corners.flatten().int(), offsets.int(), weights.flatten()), fragments.covered)


def _grown(triangle: Tensor, texels: int) -> Tensor:
    """(H, W) int64 with triangle numbers carried on into empty (-1) texels nearby."""
    for _ in range(texels):
        nearby = F.max_pool2d(triangle[None].double(), 3, stride=1, padding=1)[0].long()
        triangle = torch.where(triangle < 0, nearby, triangle)
    return triangle


def _rim_weights(corners: Tensor, texel: Tensor, size: int) -> Tensor:
    """(T, 3) barycentrics of texel centres outside their triangle (T, 3, 2), moved onto its rim."""
    centre = torch.stack([texel % size, torch.div(texel, size, rounding_mode="floor")], 1) + 0.5
    from_centre = corners - centre[:, None]
    following, previous = from_centre.roll(-1, 1), from_centre.roll(-2, 1)
    weights = following[..., 0] * previous[..., 1] - following[..., 1] * previous[..., 0]  # (T, 3) twice the areas
    weights = (weights / weights.sum(1, keepdim=True)).clamp(0, 1)
    return weights / weights.sum(1, keepdim=True)


def erode(mask: Tensor, radius: int) -> Tensor:
    """(H, W) minimum over a square of 2·radius + 1; 0 outside the image."""
    width = 2 * radius + 1
    padded = F.pad(mask[None], (radius,) * 4)
    rows = F.max_pool2d(-padded, (1, width), stride=1)
    return -F.max_pool2d(rows, (width, 1), stride=1)[0]


def blur(maps: Tensor, radius: int) -> Tensor:
    """(C, H, W): two box means of 2·radius + 1, close to a Gaussian; the border repeats."""
    for _ in range(2):
        rows = F.avg_pool1d(F.pad(maps, (radius, radius), mode="replicate"), 2 * radius + 1, stride=1)
        turned = rows.transpose(1, 2)
        columns = F.avg_pool1d(F.pad(turned, (radius, radius), mode="replicate"), 2 * radius + 1, stride=1)
        maps = columns.transpose(1, 2).contiguous()
    return maps


def push_pull(maps: Tensor, weight: Tensor) -> Tensor:
    """(C, H, W) with every texel filled: known ones as they are, the rest from ever coarser means.

    weight: (H, W) in 0..1, how far each texel is known. After Gortler et al. 1996, section 3.4.
    """
    height, width = weight.shape
    if max(height, width) <= 1:
        return maps
    padding = (0, width % 2, 0, height % 2)
    total = F.avg_pool2d(F.pad(weight[None, None], padding), 2)[0]  # (1, h, w)
    summed = F.avg_pool2d(F.pad((maps * weight)[None], padding), 2)[0]  # (C, h, w)
    coarse = push_pull(summed / total.clamp(min=1e-6), (4 * total[0]).clamp(max=1))
    rough = F.interpolate(coarse[None], scale_factor=2, mode="bilinear", align_corners=False)[0, :, :height, :width]
    return maps * weight + rough * (1 - weight)


def resample_rows(maps: Tensor, size: int, start: int, stop: int) -> Tensor:
    """Rows start..stop of maps (C, h, w) resampled bilinearly to (C, size, size): (C, stop - start, size)."""
    rows = (torch.arange(start, stop, device=maps.device) + 0.5) * (2 / size) - 1
    columns = (torch.arange(size, device=maps.device) + 0.5) * (2 / size) - 1
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    grid = torch.stack([x, y], -1)[None]
    return F.grid_sample(maps[None], grid, padding_mode="border", align_corners=False)[0]
