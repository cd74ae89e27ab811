"""The face's colours on its UV layout: sampled where the photo shows them, mirrored or filled where it does not.

What to trust is decided once on a small map; the photo is then sampled at the size that was asked for:

    texture = trust · own + mirror_trust · flip(own) + base

where own is the photo at each texel, flip its left-right mirror image (the UV layout is symmetric), and base carries
the fill of unknown texels and the colour step between the two halves, spread smoothly so that no seam shows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from hrn_opt.builtin.shape import Shape
from hrn_opt.raster import rasterize
from hrn_opt.types import Mesh, UVTexture
from hrn_opt.uvmap import UVLayout, blur, erode, push_pull, resample_rows

LAYOUT_PX = 512
ANALYSIS_PX = 256
BAND_TEXELS = 1 << 20  # texels worked on at once: bounds memory at any texture size

FACING_FADE = (0.22, 0.6)  # cosine to the viewer: below, stretched pixels; above, fully trusted
LAST_RESORT_FADE = (0.02, 0.2)  # stretched pixels still beat a smooth fill where neither half shows more
RIM_FADE_UV = (0.01, 0.04)  # the outline's own colours are hair and background
SLANTED_RIM_FADE_UV = (0.05, 0.12)  # and where it turns away from the viewer they reach further in
YAW_FADE_RAD = (0.31, 0.66)  # 18°..38°: from here on only the near half is trusted
MIDLINE_FADE_U = 0.06
VISIBILITY_PX = 256  # z-buffer side
SILHOUETTE_PX = 5  # of VISIBILITY_PX: the points may miss the true outline by this much, and then show background
VISIBILITY_SLACK = 0.03  # of the face's depth range
FEATHER_TEXELS = 2  # of ANALYSIS_PX
CROP_PX_PER_TEXEL = 1.25  # the photo is brought to this before bilinear sampling: sharp, and free of aliasing
MAX_ZOOM = 2.0  # after a bicubic doubling, bilinear sampling shows no facets; more would only cost memory


@dataclass(frozen=True)
class PhotoPatch:
    """A resampled part of the photo.

    image: (3, h, w) float32, 0..255.   photo position = patch position · scale_xy + origin_xy.
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


@dataclass(frozen=True)
class Surface:
    """The face's surface on the UV layout, each (C, 512, 512) float32.

    photo_xy: photo pixels.   depth: as the camera gives it.   facing: cosine to the viewer.   outline_distance: UV.
    """

    photo_xy: Tensor
    depth: Tensor
    facing: Tensor
    outline_distance: Tensor


@dataclass(frozen=True)
class Trust:
    """How far the photo shows each texel, (256, 256) float32 in 0..1.

    full: squarely and unhidden.   slanted: unhidden at any slant, away from the outline.
    """

    full: Tensor
    slanted: Tensor


@dataclass(frozen=True)
class Blend:
    """How a texel is made up: maps (5, h, h) float32 of own trust, mirror trust, and base RGB (0..255)."""

    maps: Tensor


def paint(photo_rgb: np.ndarray, shape: Shape, layout: UVLayout, outline_distance: Tensor, size: int) -> UVTexture:
    """The (size, size) texture of a face.

    photo_rgb: (height, width, 3) uint8.   layout: LAYOUT_PX texels a side, of shape.mesh's UV.
    outline_distance: (N,) UV units, of shape.mesh's vertices.
    """
    photo_points = shape.camera.project(shape.mesh.vertices)  # (N, 3)
    values = [photo_points, shape.view_normals[:, 2:], outline_distance[:, None]]
    surface = Surface(*layout.interpolate(torch.cat(values, 1)).split((2, 1, 1, 1)))
    positions = surface.photo_xy
    coarse = _photo_patch(photo_rgb, photo_points, _texels_per_px(shape, photo_points, ANALYSIS_PX))
    own = coarse.sample(resample_rows(positions, ANALYSIS_PX, 0, ANALYSIS_PX))  # (3, 256, 256)
    blend = _blend(own, _trust(shape, photo_points, surface, photo_rgb.shape[:2]))
    patch = _photo_patch(photo_rgb, photo_points, CROP_PX_PER_TEXEL * _texels_per_px(shape, photo_points, size))
    rgb = np.empty((size, size, 3), np.uint8)
    seen = np.empty((size, size), np.uint8)
    rows = max(BAND_TEXELS // size, 1)
    for start in range(0, size, rows):
        stop = min(start + rows, size)
        rgb[start:stop], seen[start:stop] = _paint_rows(patch, positions, blend, size, start, stop)
    return UVTexture(rgb, seen)


def _paint_rows(patch: PhotoPatch, positions: Tensor, blend: Blend, size: int, start: int, stop: int):
    own = patch.sample(resample_rows(positions, size, start, stop))  # (3, R, size)
    maps = resample_rows(blend.maps, size, start, stop)
    colour = maps[2:].addcmul_(own, maps[:1]).addcmul_(own.flip(2), maps[1:2])
    rgb = colour.round_().clamp_(0, 255).to(torch.uint8).permute(1, 2, 0)
    return rgb.numpy(), (maps[0] * 255).round_().to(torch.uint8).numpy()


def _blend(own: Tensor, trust: Trust) -> Blend:
    """What each texel is made of: itself, else its mirror image, else itself at a slant, else a fill.

    own: (3, 256, 256) the photo's colours.
    """
    mirrored = own.flip(2)
    mirror_share = (1 - trust.full) * trust.full.flip(1)
    both = trust.full * trust.full.flip(1)
    step = push_pull((own - mirrored) * (both > 0), both)  # between the halves, carried on into the hidden one
    last_resort = (1 - trust.full - mirror_share) * trust.slanted
    own_share = trust.full + last_resort
    known = own_share + mirror_share
    mixed = (own_share * own + mirror_share * (mirrored + step)) / known.clamp(min=1e-6)
    fill = push_pull(mixed * (known > 0), known)
    base = mirror_share * step + (1 - known) * fill
    return Blend(torch.cat([own_share[None], mirror_share[None], base]))


def _trust(shape: Shape, photo_points: Tensor, surface: Surface, photo_size_hw: tuple[int, int]) -> Trust:
    visible = _visible(shape.mesh, photo_points, surface) * _inside_photo(surface.photo_xy, photo_size_hw)
    unhidden = _feathered(visible)  # (256, 256)
    facing, inside = _halved(surface.facing)[0], _halved(surface.outline_distance)[0]
    full = unhidden * _fade(facing, *FACING_FADE) * _fade(inside, *RIM_FADE_UV) * _near_half(shape.yaw_rad)
    return Trust(full, unhidden * _fade(facing, *LAST_RESORT_FADE) * _fade(inside, *SLANTED_RIM_FADE_UV))


def _feathered(visible: Tensor) -> Tensor:
    """(256, 256) of (1, 512, 512): drawn in from hidden parts by as much as it is then softened."""
    return blur(erode(_halved(visible)[0], 2 * FEATHER_TEXELS)[None], FEATHER_TEXELS)[0]


def _visible(mesh: Mesh, photo_points: Tensor, surface: Surface) -> Tensor:
    """(1, 512, 512) in 0..1: no other part of the face lies in front, and the silhouette is not near."""
    low, high = photo_points.amin(0), photo_points.amax(0)
    scale = (VISIBILITY_PX - 2) / (high - low)[:2].max()
    to_buffer = (photo_points - low) * torch.stack([scale, scale, torch.tensor(1.0)]) + torch.tensor([1.0, 1.0, 0.0])
    buffer = rasterize(to_buffer, mesh.faces, (VISIBILITY_PX, VISIBILITY_PX))
    buffer_xy = (surface.photo_xy - low[:2, None, None]) * scale + 1
    grid = (buffer_xy * (2 / VISIBILITY_PX) - 1).permute(1, 2, 0)[None]
    front = torch.where(buffer.covered, buffer.depth, (high - low)[2])[None, None]
    front = F.grid_sample(front, grid, mode="nearest", padding_mode="border", align_corners=False)[0]
    unhidden = surface.depth - low[2] <= front + VISIBILITY_SLACK * (high - low)[2]
    well_inside = erode(buffer.covered.float(), SILHOUETTE_PX)[None, None]
    return unhidden * F.grid_sample(well_inside, grid, padding_mode="zeros", align_corners=False)[0]


def _inside_photo(positions: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """(1, 512, 512) of 0 or 1: the position lies in the photo."""
    x, y = positions
    return ((x >= 0) & (y >= 0) & (x <= size_hw[1]) & (y <= size_hw[0])).float()[None]


def _near_half(yaw_rad: float) -> Tensor:
    """(256,) weight over u: 1, falling to 0 on the far half as the face turns away."""
    hidden = float(_fade(torch.tensor(abs(yaw_rad)), *YAW_FADE_RAD))
    u = (torch.arange(ANALYSIS_PX) + 0.5) / ANALYSIS_PX
    # A face that looks to the photo's right shows its right half (the photo's left, u < 0.5).
    into_far = (u - 0.5) * (1 if yaw_rad > 0 else -1)
    return 1 - hidden * _fade(into_far, 0.0, MIDLINE_FADE_U)


def _texels_per_px(shape: Shape, photo_points: Tensor, size: int) -> float:
    """Texels of a (size, size) texture along one photo pixel, over the part of the face that faces the viewer."""
    faces = shape.mesh.faces
    photo_area = _signed_areas(photo_points[:, :2], faces)  # y down: negative faces the viewer
    front = photo_area < 0
    uv_area = _signed_areas(shape.mesh.uv, faces)[front].sum() * size**2
    return float((uv_area / (-photo_area[front].sum()).clamp(min=1e-6)).sqrt())


def _signed_areas(points: Tensor, faces: Tensor) -> Tensor:
    a, b, c = points[faces].unbind(1)
    first, second = b - a, c - a
    return (first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]) / 2


def _photo_patch(photo_rgb: np.ndarray, photo_points: Tensor, zoom: float) -> PhotoPatch:
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


def _halved(texels: Tensor) -> Tensor:
    """(C, 256, 256) of (C, 512, 512)."""
    return F.avg_pool2d(texels[None], LAYOUT_PX // ANALYSIS_PX)[0]


def _fade(values: Tensor, start: float, end: float) -> Tensor:
    """0 at start, 1 at end, smooth in between."""
    t = ((values - start) / (end - start)).clamp(0, 1)
    return t * t * (3 - 2 * t)
