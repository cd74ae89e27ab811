"""The morphable model: 257 coefficients → vertices, normals, light and albedo.

Source: official face_reconstruction/models/bfm.py (after Deep3DFaceRecon). Vectors are rows: p_cam = p @ rotation + t.
Camera frame: x to the image's right, y up, z away from the viewer, decimetres; the camera sits at the origin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from hrn_opt.hrn.frames import CAMERA_DISTANCE_DM, COEFFICIENTS, UV_PX


@dataclass(frozen=True)
class Coefficients:
    """The network's answer, split. Each (B, K) float32; angles in radians about x, y, z, translation in decimetres."""

    identity: Tensor
    expression: Tensor
    albedo: Tensor
    angles: Tensor
    light: Tensor
    translation: Tensor

    @classmethod
    def split(cls, coefficients: Tensor) -> Coefficients:
        """coefficients: (B, 257)."""
        parts = coefficients.split(list(COEFFICIENTS.values()), dim=1)
        return cls(**dict(zip(COEFFICIENTS, parts, strict=True)))


@dataclass(frozen=True)
class MorphableModel:
    """The statistical face.

    mean_shape: (N·3,) float32.
    shape_basis: (144, N·3), identity then expression.
    albedo_mean: (256·256·3,), 0..255.
    albedo_basis: (80, 256·256·3); may be stored in half precision.
    triangles: (F, 3) int64.
    point_faces: (N, 8) int64, triangles round each vertex, F where fewer. Means and bases may lie on another device
    than the rest, to which only the sums go.
    """

    mean_shape: Tensor
    shape_basis: Tensor
    albedo_mean: Tensor
    albedo_basis: Tensor
    triangles: Tensor
    point_faces: Tensor

    def shape(self, coefficients: Coefficients) -> Tensor:
        """(B, N, 3) vertices in the model's own frame."""
        weights = torch.cat([coefficients.identity, coefficients.expression], 1)
        flat = torch.addmm(self.mean_shape, weights.to(self.shape_basis.device), self.shape_basis)
        return flat.view(len(weights), -1, 3).to(weights.device)

    def albedo_map(self, coefficients: Coefficients) -> Tensor:
        """(B, 3, 256, 256) RGB, about 0..1."""
        weights = coefficients.albedo.to(self.albedo_basis)
        flat = (weights @ self.albedo_basis).float() + self.albedo_mean
        return (flat / 255).to(coefficients.albedo.device).view(len(weights), UV_PX, UV_PX, 3).permute(0, 3, 1, 2)

    def normals(self, vertices: Tensor) -> Tensor:
        """(B, N, 3) unit normals, each triangle counted alike.

        PARITY: a vertex takes at most 8 triangles into account (`point_buf`); test_morphable.py pins it.
        """
        a, b, c = vertices[:, self.triangles].unbind(2)  # (B, F, 3) each
        of_face = F.normalize(torch.linalg.cross(a - b, b - c), dim=-1)
        of_face = F.pad(of_face, (0, 0, 0, 1))  # the padding triangle has no normal
        sums = [F.embedding_bag(self.point_faces, one, mode="sum") for one in of_face]  # gathered and summed at once
        return F.normalize(torch.stack(sums), dim=-1)


@dataclass(frozen=True)
class Pose:
    """rotation: (B, 3, 3), p @ rotation.
    translation: (B, 3).
    """

    rotation: Tensor
    translation: Tensor

    def apply(self, vertices: Tensor) -> Tensor:
        """(B, N, 3) in the viewer's frame: z towards the viewer, the camera at z = 10."""
        return vertices @ self.rotation + self.translation[:, None]


def pose_of(coefficients: Coefficients) -> Pose:
    """Rotation about x, then y, then z."""
    x, y, z = coefficients.angles.unbind(1)
    about_x, about_y, about_z = (_axis_rotation(angle, axis) for axis, angle in enumerate((x, y, z)))
    return Pose((about_z @ about_y @ about_x).transpose(1, 2), coefficients.translation)


def to_camera(viewer: Tensor) -> Tensor:
    """Viewer's frame ↔ camera frame: z becomes the distance from the camera."""
    return torch.cat([viewer[..., :2], CAMERA_DISTANCE_DM - viewer[..., 2:]], -1)


def _axis_rotation(angle: Tensor, axis: int) -> Tensor:
    """(B, 3, 3) turning by angle (B,) about one axis, right-handed, for column vectors."""
    cosine, sine = angle.cos(), angle.sin()
    rotation = torch.zeros(len(angle), 3, 3, dtype=angle.dtype, device=angle.device)
    first, second = (axis + 1) % 3, (axis + 2) % 3
    rotation[:, axis, axis] = 1
    rotation[:, first, first] = rotation[:, second, second] = cosine
    rotation[:, second, first], rotation[:, first, second] = sine, -sine
    return rotation


# Spherical harmonics up to degree 2 with the published constants: 0.886227, 1.772454 and 2.427032 as products.
_SH_BAND = (math.pi, 2 * math.pi / math.sqrt(3), 2 * math.pi / math.sqrt(8))
_SH_NORM = (
    1 / math.sqrt(4 * math.pi),
    math.sqrt(3) / math.sqrt(4 * math.pi),
    3 * math.sqrt(5) / math.sqrt(12 * math.pi),
)
_AMBIENT = 0.8  # added to the first coefficient of every colour


def shade(normals: Tensor, light: Tensor) -> Tensor:
    """(B, 3, P) light that reaches a surface, for each colour.

    normals: (B, 3, P).
    light: (B, 27) coefficients, nine a colour.
    """
    x, y, z = normals.unbind(1)
    zeroth, first, second = (band * norm for band, norm in zip(_SH_BAND, _SH_NORM, strict=True))
    basis = torch.stack(
        [
            torch.full_like(x, zeroth),
            -first * y,
            first * z,
            -first * x,
            second * x * y,
            -second * y * z,
            0.5 * second / math.sqrt(3) * (3 * z**2 - 1),
            -second * x * z,
            0.5 * second * (x**2 - y**2),
        ],
        1,
    )  # (B, 9, P)
    colours = light.view(-1, 3, 9).clone()
    colours[..., 0] += _AMBIENT
    return colours @ basis
