"""The face's colours on its UV layout: sampled where the photo shows them, mirrored or filled where it does not.

What may be taken is decided once on a small map: what is in sight, faces the viewer, and is skin (skin.py). The photo
is then sampled at the size that was asked for:

    texture = blend_weight · own + mirror_weight · flip(own) + base

where own is the photo at each texel, flip its left-right mirror image (the UV layout is symmetric), and base carries
the fill of unknown texels and the step of light between the two halves, spread smoothly so that no seam shows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from hrn_opt.builtin.face_mesh import CanonicalFace
from hrn_opt.builtin.regions import REGION_PX, FaceRegions, face_regions
from hrn_opt.builtin.shape import Shape
from hrn_opt.builtin.skin import SkinMap, skin_map
from hrn_opt.geometry.projection import (
    CROP_PX_PER_TEXEL,
    PhotoPatch,
    bands,
    fade,
    inside_photo,
    photo_patch,
    texels_per_px,
    visible,
)
from hrn_opt.geometry.uv import UVRaster, blur, erode, push_pull, rasterize_uv, resample_rows
from hrn_opt.types import UVTexture

RASTER_PX = 512
ANALYSIS_PX = 256

FACING_FADE = (0.22, 0.6)  # cosine to the viewer: below, stretched pixels; above, fully trusted
LAST_RESORT_FADE = (0.02, 0.2)  # stretched pixels still beat a smooth fill where neither half shows more
RIM_FADE_UV = (0.01, 0.04)  # the outline's own colours are hair and background
SLANTED_RIM_FADE_UV = (0.05, 0.12)  # and where it turns away from the viewer they reach further in
YAW_FADE_RAD = (0.31, 0.66)  # 18°..38°: from here on only the near half is trusted
MIDLINE_FADE_U = 0.06
FEATHER_TEXELS = 2  # of ANALYSIS_PX
LEAST_FACING = 0.12  # cosine to the viewer, of texels whose colours say what the face's skin is
FILL_FADE = (0.2, 0.8)  # blend weight: what is hardly trusted must not colour what is not
MOST_STEP_QUANTILE = 0.6  # of the differences that are seen; larger ones are a mole or a curl, not light


@dataclass(frozen=True)
class Surface:
    """The face's surface on the UV layout, each (C, 512, 512) float32.

    photo_xy: photo pixels.
    depth: as the camera gives it.
    normals: as the camera sees them, z to the viewer.
    outline_distance: UV.
    """

    photo_xy: Tensor
    depth: Tensor
    normals: Tensor
    outline_distance: Tensor

    @property
    def facing(self) -> Tensor:
        """(1, 512, 512) cosine to the viewer."""
        return self.normals[2:]


@dataclass(frozen=True)
class BlendWeight:
    """How far the photo shows each texel, (256, 256) float32 in 0..1.

    full: squarely and unhidden.
    slanted: unhidden at any slant, away from the outline.
    """

    full: Tensor
    slanted: Tensor


@dataclass(frozen=True)
class Blend:
    """How a texel is made up: maps (5, h, h) float32 of own weight, mirror weight, and base RGB (0..255)."""

    maps: Tensor


@dataclass(frozen=True)
class FaceLayout:
    """The embedded model's UV layout.

    uv: RASTER_PX texels a side.
    regions: what lies where on it.
    outline_distance: (M,) UV units, of each vertex.
    """

    uv: UVRaster
    regions: FaceRegions
    outline_distance: Tensor


@dataclass(frozen=True)
class BakedTexture:
    """A texture, and how much of the face it was taken from."""

    texture: UVTexture
    skin: SkinMap


def face_layout(face_mesh: CanonicalFace) -> FaceLayout:
    uv = rasterize_uv(face_mesh.uv, face_mesh.seams.faces, RASTER_PX)
    return FaceLayout(uv, face_regions(face_mesh, uv), face_mesh.outline_distance)


def bake_texture(photo_rgb: np.ndarray, shape: Shape, layout: FaceLayout, size: int) -> BakedTexture:
    """The (size, size) texture of a face.

    photo_rgb: (height, width, 3) uint8.
    layout: of shape.mesh's UV.
    """
    photo_points = shape.camera.project(shape.mesh.vertices)  # (N, 3)
    surface = _surface(shape, photo_points, layout)
    coarse = photo_patch(
        photo_rgb, photo_points, texels_per_px(photo_points, shape.mesh.faces, shape.mesh.uv, ANALYSIS_PX)
    )
    own = coarse.sample(resample_rows(surface.photo_xy, ANALYSIS_PX, 0, ANALYSIS_PX))  # (3, 256, 256)
    unhidden = _reduced(_unhidden(shape, photo_points, surface, photo_rgb.shape[:2]), ANALYSIS_PX)[0]  # (256, 256)
    skin = _skin(own, unhidden, surface, layout.regions)
    blend_weight = _blend_weight(shape, surface, unhidden, _enlarged(skin.own))
    blend = _blend(own, blend_weight, _enlarged(layout.regions.skin.float()))
    patch = photo_patch(
        photo_rgb, photo_points, CROP_PX_PER_TEXEL * texels_per_px(photo_points, shape.mesh.faces, shape.mesh.uv, size)
    )
    rgb = np.empty((size, size, 3), np.uint8)
    visibility = np.empty((size, size), np.uint8)
    for start, stop in bands(size):
        rgb[start:stop], visibility[start:stop] = _bake_rows(patch, surface.photo_xy, blend, size, start, stop)
    return BakedTexture(UVTexture(rgb, visibility), skin)


def _skin(own: Tensor, unhidden: Tensor, surface: Surface, regions: FaceRegions) -> SkinMap:
    normals = _reduced(surface.normals, REGION_PX)
    in_sight = (_reduced(unhidden[None], REGION_PX)[0] > 0.5) & (normals[2] > LEAST_FACING)
    return skin_map(_reduced(own, REGION_PX), normals, in_sight, regions)


def _enlarged(regions_map: Tensor) -> Tensor:
    """(256, 256) of (128, 128)."""
    return resample_rows(regions_map[None], ANALYSIS_PX, 0, ANALYSIS_PX)[0]


def _surface(shape: Shape, photo_points: Tensor, layout: FaceLayout) -> Surface:
    values = [photo_points, shape.view_normals, layout.outline_distance[:, None]]
    return Surface(*layout.uv.interpolate(torch.cat(values, 1)).split((2, 1, 3, 1)))


def _bake_rows(
    patch: PhotoPatch, positions: Tensor, blend: Blend, size: int, start: int, stop: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    own = patch.sample(resample_rows(positions, size, start, stop))  # (3, R, size)
    maps = resample_rows(blend.maps, size, start, stop)
    colour = maps[2:].addcmul_(own, maps[:1]).addcmul_(own.flip(2), maps[1:2])
    rgb = colour.round_().clamp_(0, 255).to(torch.uint8).permute(1, 2, 0)
    return rgb.numpy(), (maps[0] * 255).round_().to(torch.uint8).numpy()


def _blend(own: Tensor, blend_weight: BlendWeight, bare: Tensor) -> Blend:
    """What each texel is made of: itself, else its mirror image, else itself at a slant, else a fill of bare skin.

    own: (3, 256, 256) the photo's colours.
    bare: (256, 256) in 0..1, where there are no eyes, brows or lips.
    """
    mirrored = own.flip(2)
    mirror_share = (1 - blend_weight.full) * blend_weight.full.flip(1)
    both = blend_weight.full * blend_weight.full.flip(1) * bare
    step = _light_step(own - mirrored, both)
    last_resort = (1 - blend_weight.full - mirror_share) * blend_weight.slanted
    own_share = blend_weight.full + last_resort
    known = own_share + mirror_share
    mixed = (own_share * own + mirror_share * (mirrored + step)) / known.clamp(min=1e-6)
    source = bare * fade(known, *FILL_FADE)
    fill = push_pull(mixed * (source > 0), source)
    base = mirror_share * step + (1 - known) * fill
    return Blend(torch.cat([own_share[None], mirror_share[None], base]))


def _light_step(difference: Tensor, both: Tensor) -> Tensor:
    """(3, 256, 256): how much lighter each texel is than its mirror image, carried on into what is hidden.

    difference: (3, 256, 256) levels.
    both: (256, 256) how far a texel and its mirror image are both trusted.
    """
    sizes = difference.abs().amax(0)[both > 0.5]
    most = float(sizes.quantile(MOST_STEP_QUANTILE)) if len(sizes) else 0.0
    return push_pull(difference.clamp(-most, most) * (both > 0), both)


def _blend_weight(shape: Shape, surface: Surface, unhidden: Tensor, skin: Tensor) -> BlendWeight:
    """unhidden, skin: (256, 256) in 0..1."""
    shown = _feathered(unhidden) * skin
    facing, inside = (_reduced(one, ANALYSIS_PX)[0] for one in (surface.facing, surface.outline_distance))
    full = shown * fade(facing, *FACING_FADE) * fade(inside, *RIM_FADE_UV) * _near_half(shape.yaw_rad)
    return BlendWeight(full, shown * fade(facing, *LAST_RESORT_FADE) * fade(inside, *SLANTED_RIM_FADE_UV))


def _unhidden(shape: Shape, photo_points: Tensor, surface: Surface, photo_size_hw: tuple[int, int]) -> Tensor:
    """(1, 512, 512) in 0..1: in the photo, and no other part of the face lies in front."""
    in_sight = visible(photo_points, shape.mesh.faces, surface.photo_xy, surface.depth)
    return in_sight * inside_photo(surface.photo_xy, photo_size_hw)


def _feathered(unhidden: Tensor) -> Tensor:
    """(256, 256) drawn in from hidden parts by as much as it is then softened."""
    return blur(erode(unhidden, 2 * FEATHER_TEXELS)[None], FEATHER_TEXELS)[0]


def _near_half(yaw_rad: float) -> Tensor:
    """(256,) weight over u: 1, falling to 0 on the far half as the face turns away."""
    hidden = float(fade(torch.tensor(abs(yaw_rad)), *YAW_FADE_RAD))
    u = (torch.arange(ANALYSIS_PX) + 0.5) / ANALYSIS_PX
    # A face that looks to the photo's right shows its right half (the photo's left, u < 0.5).
    into_far = (u - 0.5) * (1 if yaw_rad > 0 else -1)
    return 1 - hidden * fade(into_far, 0.0, MIDLINE_FADE_U)


def _reduced(texels: Tensor, size: int) -> Tensor:
    """(C, size, size) means of (C, S, S), S a multiple of size."""
    return F.avg_pool2d(texels[None], texels.shape[-1] // size)[0]
