"""The photo seen from a UV map: where each texel lies on it, whether it shows there, and its colour.

Used by every model; a texture is painted in bands of rows, so that its size does not decide the memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from hrn_opt.geometry.raster import Fragments, rasterize
from hrn_opt.geometry.uv import erode

BAND_TEXELS = 1 << 20  # texels worked on at once: bounds memory at any texture size
VISIBILITY_PX = 256  # z-buffer side
SILHOUETTE_PX = 5  # of VISIBILITY_PX: the mesh may miss the true outline by this much, and then show background
FAR = 1e9  # depth where a z-buffer shows nothing; larger than any
VISIBILITY_SLACK = 0.03  # of the face's depth range
CROP_PX_PER_TEXEL = 1.25  # the photo is brought to this before bilinear sampling: sharp, and free of aliasing
MAX_ZOOM = 2.0  # after a bicubic doubling, bilinear sampling shows no facets; more would only cost memory


@dataclass(frozen=True)
class PhotoPatch:
    """A resampled part of the photo.

    image: (3, h, w) float32, 0..255.
    scale_xy, origin_xy: photo position = patch position · scale_xy + origin_xy.
    """

    image: Tensor
    scale_xy: Tensor
    origin_xy: Tensor

    def sample(self, photo_xy: Tensor) -> Tensor:
        """(3, H, W) at photo positions (2, H, W), bilinear."""
        size_wh = torch.tensor([self.image.shape[2], self.image.shape[1]], dtype=torch.float32)
        gain, shift = 2 / (self.scale_xy * size_wh), -2 * self.origin_xy / (self.scale_xy * size_wh) - 1
        grid = photo_xy.permute(1, 2, 0) * gain + shift  # (H, W, 2)
        return F.grid_sample(self.image[None], grid[None], padding_mode="border", align_corners=False)[0]


def photo_patch(photo_rgb: NDArray[np.uint8], photo_points: Tensor, zoom: float) -> PhotoPatch:
    """The part of the photo under the face, resampled once (antialiased, or smoothly enlarged) by about zoom."""
    height, width = photo_rgb.shape[:2]
    zoom = min(zoom, MAX_ZOOM)
    margin = 4 + 4 / zoom
    low = (photo_points[:, :2].amin(0) - margin).floor().long().tolist()
    high = (photo_points[:, :2].amax(0) + margin).ceil().long().tolist()
    left, right = min(max(low[0], 0), width - 1), min(max(high[0], 1), width)
    top, bottom = min(max(low[1], 0), height - 1), min(max(high[1], 1), height)
    patch = Image.fromarray(np.ascontiguousarray(photo_rgb[top:bottom, left:right]))
    size_wh = max(round(patch.width * zoom), 1), max(round(patch.height * zoom), 1)
    scale_xy = torch.tensor([patch.width / size_wh[0], patch.height / size_wh[1]])
    resized = patch.resize(size_wh, Image.Resampling.BICUBIC)
    image = torch.from_numpy(np.array(resized)).permute(2, 0, 1).float()
    return PhotoPatch(image, scale_xy, torch.tensor([float(left), float(top)]))


def texels_per_px(photo_points: Tensor, faces: Tensor, uv: Tensor, size: int) -> float:
    """Texels of a (size, size) texture along one photo pixel, over the part of the mesh that faces the viewer.

    photo_points: (N, 2 or 3) photo pixels.
    faces: (F, 3).
    uv: (N, 2).
    """
    photo_area = _signed_areas(photo_points[:, :2], faces)  # y down: negative faces the viewer
    front = photo_area < 0
    uv_area = _signed_areas(uv, faces)[front].sum() * size**2
    return float((uv_area / (-photo_area[front].sum()).clamp(min=1e-6)).sqrt())


def visible(photo_points: Tensor, faces: Tensor, photo_xy: Tensor, depth: Tensor) -> Tensor:
    """(1, H, W) in 0..1: no other part of the face lies in front, and the silhouette is not near.

    photo_points: (N, 3) of the mesh, x px, y px, depth.
    photo_xy: (2, H, W) and depth: (1, H, W) of the texels.
    """
    low, high = photo_points.amin(0), photo_points.amax(0)
    scale = (VISIBILITY_PX - 2) / (high - low)[:2].max()
    to_buffer = (photo_points - low) * torch.stack([scale, scale, torch.tensor(1.0)]) + torch.tensor([1.0, 1.0, 0.0])
    buffer = rasterize(to_buffer, faces, (VISIBILITY_PX, VISIBILITY_PX))
    buffer_xy = (photo_xy - low[:2, None, None]) * scale + 1
    return in_sight(buffer, buffer_xy, depth - low[2], VISIBILITY_SLACK * float((high - low)[2]))


def in_sight(buffer: Fragments, buffer_xy: Tensor, depth: Tensor, slack: float) -> Tensor:
    """(1, H, W) in 0..1: which texels a square z-buffer shows, away from its silhouette.

    buffer_xy: (2, H, W) buffer pixels and depth: (1, H, W) of the texels.
    slack: in the depth's unit.
    """
    grid = (buffer_xy * (2 / buffer.depth.shape[0]) - 1).permute(1, 2, 0)[None]
    front = buffer.depth.nan_to_num(posinf=FAR)[None, None]
    front = F.grid_sample(front, grid, mode="nearest", padding_mode="border", align_corners=False)[0]
    well_inside = erode(buffer.covered.float(), SILHOUETTE_PX)[None, None]
    inside = F.grid_sample(well_inside, grid, padding_mode="zeros", align_corners=False)[0]
    return (depth <= front + slack) * inside


def inside_photo(photo_xy: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """(1, H, W) of 0 or 1: the position lies in the photo."""
    x, y = photo_xy.unbind()
    return ((x >= 0) & (y >= 0) & (x <= size_hw[1]) & (y <= size_hw[0])).float()[None]


def bands(size: int) -> list[tuple[int, int]]:
    """(start, stop) rows of a (size, size) texture, each band of about BAND_TEXELS."""
    rows = max(BAND_TEXELS // size, 1)
    return [(start, min(start + rows, size)) for start in range(0, size, rows)]


def fade(values: Tensor, start: float, end: float) -> Tensor:
    """0 at start, 1 at end, smooth in between."""
    t = ((values - start) / (end - start)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def _signed_areas(points: Tensor, faces: Tensor) -> Tensor:
    a, b, c = points[faces].unbind(1)
    first, second = b - a, c - a
    return (first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]) / 2
