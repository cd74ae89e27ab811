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
from torch import Tensor
from torch.nn import functional as F

from hrn_opt.builtin.shape import Shape
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
from hrn_opt.types import UVTexture
from hrn_opt.uvmap import UVLayout, blur, erode, push_pull, resample_rows

LAYOUT_PX = 512
ANALYSIS_PX = 256

FACING_FADE = (0.22, 0.6)  # cosine to the viewer: below, stretched pixels; above, fully trusted
LAST_RESORT_FADE = (0.02, 0.2)  # stretched pixels still beat a smooth fill where neither half shows more
RIM_FADE_UV = (0.01, 0.04)  # the outline's own colours are hair and background
SLANTED_RIM_FADE_UV = (0.05, 0.12)  # and where it turns away from the viewer they reach further in
YAW_FADE_RAD = (0.31, 0.66)  # 18°..38°: from here on only the near half is trusted
MIDLINE_FADE_U = 0.06
FEATHER_TEXELS = 2  # of ANALYSIS_PX


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
    coarse = photo_patch(
        photo_rgb, photo_points, texels_per_px(photo_points, shape.mesh.faces, shape.mesh.uv, ANALYSIS_PX)
    )
    own = coarse.sample(resample_rows(positions, ANALYSIS_PX, 0, ANALYSIS_PX))  # (3, 256, 256)
    blend = _blend(own, _trust(shape, photo_points, surface, photo_rgb.shape[:2]))
    patch = photo_patch(
        photo_rgb, photo_points, CROP_PX_PER_TEXEL * texels_per_px(photo_points, shape.mesh.faces, shape.mesh.uv, size)
    )
    rgb = np.empty((size, size, 3), np.uint8)
    seen = np.empty((size, size), np.uint8)
    for start, stop in bands(size):
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
    in_sight = visible(photo_points, shape.mesh.faces, surface.photo_xy, surface.depth)
    unhidden = _feathered(in_sight * inside_photo(surface.photo_xy, photo_size_hw))  # (256, 256)
    facing, inside = _halved(surface.facing)[0], _halved(surface.outline_distance)[0]
    full = unhidden * fade(facing, *FACING_FADE) * fade(inside, *RIM_FADE_UV) * _near_half(shape.yaw_rad)
    return Trust(full, unhidden * fade(facing, *LAST_RESORT_FADE) * fade(inside, *SLANTED_RIM_FADE_UV))


def _feathered(in_sight: Tensor) -> Tensor:
    """(256, 256) of (1, 512, 512): drawn in from hidden parts by as much as it is then softened."""
    return blur(erode(_halved(in_sight)[0], 2 * FEATHER_TEXELS)[None], FEATHER_TEXELS)[0]


def _near_half(yaw_rad: float) -> Tensor:
    """(256,) weight over u: 1, falling to 0 on the far half as the face turns away."""
    hidden = float(fade(torch.tensor(abs(yaw_rad)), *YAW_FADE_RAD))
    u = (torch.arange(ANALYSIS_PX) + 0.5) / ANALYSIS_PX
    # A face that looks to the photo's right shows its right half (the photo's left, u < 0.5).
    into_far = (u - 0.5) * (1 if yaw_rad > 0 else -1)
    return 1 - hidden * fade(into_far, 0.0, MIDLINE_FADE_U)


def _halved(texels: Tensor) -> Tensor:
    """(C, 256, 256) of (C, 512, 512)."""
    return F.avg_pool2d(texels[None], LAYOUT_PX // ANALYSIS_PX)[0]
