"""Which texel of the face's UV layout is what: features, the skin round them, and where a beard grows.

All maps are (128, 128) bool, row 0 at v = 1. "Left" and "right" are the picture's. The points' names are those of
MediaPipe's canonical face.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from hrn_opt.builtin.face_mesh import CanonicalFace
from hrn_opt.builtin.points import LEFT_EYE, LEFT_EYE_RIM, LIPS, MESH_COUNT, RIGHT_EYE, RIGHT_EYE_RIM
from hrn_opt.geometry.uv import UVRaster

REGION_PX = 128
_EYE_COUNT = 32  # of an eye's points: the lids' edge and the ring round it; further rings lie on the cheek
_BROWS = (
    46, 53, 52, 65, 55, 70, 63, 105, 66, 107,
    276, 283, 282, 295, 285, 300, 293, 334, 296, 336,
)  # fmt: skip
_NOSTRILS = (98, 327, 97, 326, 2, 64, 294, 240, 460, 99, 328, 75, 305, 60, 290, 20, 250)
_FEATURES = (LIPS, LEFT_EYE[:_EYE_COUNT], RIGHT_EYE[:_EYE_COUNT], _NOSTRILS)
_MEMBERSHIPS = (*_FEATURES, _BROWS, LEFT_EYE_RIM, RIGHT_EYE_RIM)
_FEATURE_SHARE = 0.45  # of a texel's triangle that belongs to the feature's points

# Where bare skin is looked for. A mask, a scarf or a beard takes the lower ones, a hat or a fringe the uppermost.
_PATCH_RADIUS_UV = 0.03
_UPPER_PATCHES = (6, 5, 118, 347, 205, 425)  # bridge and tip of the nose, under the eyes, cheeks
_OUTER_PATCHES = (192, 416, 200, 164, 151, 108, 337)  # jaw's sides, chin, upper lip, forehead
_OUTER_PATCH_WEIGHT = 0.7

_RING_TEXELS = 4
_GUTTER_TEXELS = 2
_FEATURE_RIM_TEXELS = 1
_GLASSES_TEXELS = 12
_RING_INSIDE_UV = 0.03  # from the outline; the mouth's inside lies beyond it, in a patch of its own
_NOSE_BASE, _LIP_CORNER, _BETWEEN_BROWS = 2, 291, 9
_FRONT_OF_MOUTH = 1.3  # half width of moustache and chin beard, in half widths of the mouth
_RIM_UV = 0.05
_MIDDLE_INSIDE_UV = 0.07  # from the outline


@dataclass(frozen=True)
class FaceRegions:
    """Fixed maps of the layout.

    covered: texels of the face.
    patches: (P, 128, 128), small spots where most faces show bare skin.
    patch_weights: (P,) float32, how much each of them counts.
    features: (4, 128, 128): mouth with its inside, left eye, right eye, nostrils.
    rings: (4, 128, 128): the skin round each of them.
    eyes: (2, 128, 128): between the lids, left and right.
    brows: both of them, where they are not eye.
    glasses: round the eyes, where glasses sit.
    skin: bare skin on most faces, away from every feature.
    beard: where a beard may grow.
    front_beard: the part of it under the nose and on the chin.
    rim: along the outline.
    middle: the face from the brows down, away from its outline.
    """

    covered: Tensor
    patches: Tensor
    patch_weights: Tensor
    features: Tensor
    rings: Tensor
    eyes: Tensor
    brows: Tensor
    glasses: Tensor
    skin: Tensor
    beard: Tensor
    front_beard: Tensor
    rim: Tensor
    middle: Tensor

    @property
    def any_feature(self) -> Tensor:
        return self.features.any(0) | self.brows


def face_regions(face_mesh: CanonicalFace, layout: UVRaster) -> FaceRegions:
    """The maps for a layout whose size is a multiple of REGION_PX."""
    covered = _reduced(layout.covered.float()[None])[0] > 0.9
    u, v = (axis[0] for axis in _texel_uv().split(1))
    members = _reduced(layout.interpolate(_memberships(face_mesh))) > _FEATURE_SHARE  # (7, 128, 128)
    members |= _grown(members, _GUTTER_TEXELS) & ~covered  # the mouth's slit and the rim of its inside
    features, (brows,), eyes = members.split((len(_FEATURES), 1, 2))
    any_feature = features.any(0) | brows
    grown = _grown(features, _RING_TEXELS)
    spots = (*_UPPER_PATCHES, *_OUTER_PATCHES)
    centres = torch.stack([_uv_of(face_mesh, point) for point in spots])
    patches = ((u - centres[:, 0, None, None]) ** 2 + (v - centres[:, 1, None, None]) ** 2) < _PATCH_RADIUS_UV**2
    inside = _reduced(layout.interpolate(face_mesh.outline_distance[:, None]))[0]
    beard = covered & (v < _uv_of(face_mesh, _NOSE_BASE)[1])
    below_brows = covered & (v < _uv_of(face_mesh, _BETWEEN_BROWS)[1])
    reach = _FRONT_OF_MOUTH * (_uv_of(face_mesh, _LIP_CORNER)[0] - 0.5).abs()
    return FaceRegions(
        covered=covered,
        patches=patches & covered,
        patch_weights=torch.tensor([1.0] * len(_UPPER_PATCHES) + [_OUTER_PATCH_WEIGHT] * len(_OUTER_PATCHES)),
        features=features,
        eyes=eyes,
        brows=brows & ~features.any(0),
        rings=grown & ~any_feature & (inside > _RING_INSIDE_UV),
        glasses=_grown(features[1:3], _GLASSES_TEXELS).any(0) & below_brows & (inside > _MIDDLE_INSIDE_UV),
        skin=covered & ~_grown(any_feature[None], _FEATURE_RIM_TEXELS)[0],
        beard=beard,
        front_beard=beard & ((u - 0.5).abs() < reach),
        rim=covered & (inside < _RIM_UV),
        middle=below_brows & (inside > _MIDDLE_INSIDE_UV),
    )


def _memberships(face_mesh: CanonicalFace) -> Tensor:
    """(M, 7) float32: how far each output vertex belongs to each feature, to the brows, and to the eyes' openings."""
    of_points = torch.zeros(MESH_COUNT, len(_MEMBERSHIPS))
    for column, points in enumerate(_MEMBERSHIPS):
        of_points[list(points), column] = 1
    return face_mesh.subdivide(of_points)[face_mesh.seams.vertex]


def _uv_of(face_mesh: CanonicalFace, point: int) -> Tensor:
    """(2,) u and v of one of the 468 points; of the face itself where the mouth's patch has it too."""
    vertices = (face_mesh.seams.vertex == point).nonzero().squeeze(1)
    return face_mesh.uv[vertices[0]]


def _texel_uv() -> Tensor:
    """(2, 128, 128) u and v of each texel's centre."""
    along = (torch.arange(REGION_PX) + 0.5) / REGION_PX
    v, u = torch.meshgrid(1 - along, along, indexing="ij")
    return torch.stack([u, v])


def _grown(maps: Tensor, texels: int) -> Tensor:
    """(C, 128, 128) bool maps, wider by so many texels on each side."""
    return F.max_pool2d(maps[None].float(), 2 * texels + 1, stride=1, padding=texels)[0] > 0


def _reduced(maps: Tensor) -> Tensor:
    """(C, 128, 128) of (C, S, S)."""
    return F.avg_pool2d(maps[None], maps.shape[-1] // REGION_PX)[0]
