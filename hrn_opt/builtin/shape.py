"""From 478 points on the photo to a smooth mesh in the model frame, and the camera that lays it back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hrn_opt.builtin.face_mesh import FaceMesh
from hrn_opt.builtin.points import MESH_COUNT
from hrn_opt.mesh import vertex_normals
from hrn_opt.types import Camera, Mesh

# Points that hardly move with expression, for the rigid fit: brow to nose and the outline above the mouth.
RIGID_POINTS = (
    10, 338, 109, 67, 297, 103, 332, 151, 9, 8, 168, 6, 197, 195, 5, 4, 1, 33, 263, 133, 362, 127, 356, 234, 454,
)  # fmt: skip


@dataclass(frozen=True)
class Similarity:
    """p_to = scale * rotation @ p_from + offset."""

    scale: float
    rotation: Tensor
    offset: Tensor


@dataclass(frozen=True)
class Shape:
    """One face's geometry.

    mesh: model frame, decimetres, facing +z whatever the pose in the photo.   camera: mesh → photo.
    view_normals: (N, 3) unit normals as the camera sees them, x right, y up, z to the viewer.   yaw_rad: how far the
    face is turned; positive when it looks to the photo's right.
    """

    mesh: Mesh
    camera: Camera
    view_normals: Tensor
    yaw_rad: float


def fit_shape(face_mesh: FaceMesh, points: Tensor) -> Shape:
    """points: (478, 3) float32 photo pixels, z negative nearer."""
    upright = points[:MESH_COUNT] * points.new_tensor([1, -1, -1])  # y up, z to the viewer
    fit = fit_similarity(face_mesh.canonical[list(RIGID_POINTS)], upright[list(RIGID_POINTS)])
    model_points = (upright - fit.offset) @ fit.rotation / fit.scale  # (468, 3) decimetres
    surface = face_mesh.surface(model_points)
    normals = vertex_normals(surface, face_mesh.subdivide.faces)
    of_output = face_mesh.seams.vertex
    mesh = Mesh(surface[of_output], face_mesh.seams.faces, normals[of_output], face_mesh.uv)
    view_normals = mesh.normals @ fit.rotation.T
    forward = fit.rotation[:, 2]
    return Shape(mesh, _camera(fit), view_normals, float(torch.atan2(forward[0], forward[2])))


def fit_similarity(source: Tensor, target: Tensor) -> Similarity:
    """The least-squares similarity from source to target, both (K, 3) (Umeyama 1991)."""
    source_mean, target_mean = source.mean(0), target.mean(0)
    source_centred, target_centred = source - source_mean, target - target_mean
    u, singular, vt = torch.linalg.svd(target_centred.T @ source_centred)
    sign = torch.ones(3)
    sign[2] = torch.sign(torch.det(u @ vt))
    rotation = u @ torch.diag(sign) @ vt
    scale = (singular * sign).sum() / source_centred.square().sum()
    return Similarity(float(scale), rotation, target_mean - scale * rotation @ source_mean)


def _camera(fit: Similarity) -> Camera:
    """Orthographic: the photo's pixels with z in pixels too, smaller is nearer."""
    flip = torch.tensor([1.0, -1.0, -1.0])
    matrix = torch.eye(4)
    matrix[:3, :3] = flip[:, None] * fit.scale * fit.rotation
    matrix[:3, 3] = flip * fit.offset
    return Camera(matrix)
