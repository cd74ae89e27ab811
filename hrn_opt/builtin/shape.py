"""From 478 points on the photo to a smooth mesh in the model frame, and the camera that lays it back."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from hrn_opt.builtin.face_mesh import CanonicalFace
from hrn_opt.builtin.points import MESH_COUNT
from hrn_opt.geometry.mesh import vertex_normals
from hrn_opt.types import Camera, Mesh

# Points that hardly move with expression, for the rigid fit: brow to nose and the outline above the mouth.
RIGID_POINTS = (
    10, 338, 109, 67, 297, 103, 332, 151, 9, 8, 168, 6, 197, 195, 5, 4, 1, 33, 263, 133, 362, 127, 356, 234, 454,
)  # fmt: skip

UPRIGHT = (1.0, -1.0, -1.0)  # from photo points to y up, z to the viewer
# The network's depth shows a turn smaller than it is. Judged by the turn that leaves a face most like its own mirror
# image, over 96 photos of faces turned by 8° to 35°: the true turn is 1.19 times the seen one in the median (quartiles
# 1.09 and 1.28). This gain brings the fitted turn to 1.16 times, where shapes came out most symmetric on the whole
# (4.2 mm apart from their mirror images become 3.8). Past 45° the ratio was 0.97: the far half is guesswork there.
TURN_GAIN = 1.25
TURN_GAIN_FADE_DEG = (28.0, 45.0)


@dataclass(frozen=True)
class Similarity:
    """p_to = scale * rotation @ p_from + offset."""

    scale: float
    rotation: Tensor
    offset: Tensor


@dataclass(frozen=True)
class Shape:
    """One face's geometry.

    mesh: model frame, decimetres, facing +z whatever the pose in the photo.
    camera: mesh → photo.
    view_normals: (N, 3) unit normals as the camera sees them, x right, y up, z to the viewer.
    yaw_rad: how far the face is turned about its own upright axis, however the photo is rolled; positive when it looks
    to its own left, which is the photo's right for an upright face.
    """

    mesh: Mesh
    camera: Camera
    view_normals: Tensor
    yaw_rad: float


def fit_shape(face_mesh: CanonicalFace, points: Tensor) -> Shape:
    """points: (478, 3) float32 photo pixels, z negative nearer."""
    upright = points[:MESH_COUNT] * points.new_tensor(UPRIGHT)
    fit = fit_similarity(face_mesh.canonical[list(RIGID_POINTS)], upright[list(RIGID_POINTS)])
    model_points = (upright - fit.offset) @ fit.rotation / fit.scale  # (468, 3) decimetres
    surface = face_mesh.surface(model_points)
    normals = vertex_normals(surface, face_mesh.subdivide.faces)
    of_output = face_mesh.seams.vertex
    mesh = Mesh(surface[of_output], face_mesh.seams.faces, normals[of_output], face_mesh.uv)
    view_normals = mesh.normals @ fit.rotation.T
    return Shape(mesh, _camera(fit), view_normals, -_depth_angle(fit.rotation[:, 0]))


def with_true_turn(face_mesh: CanonicalFace, points: Tensor) -> Tensor:
    """The network's points with the depth that belongs to the face's true turn; x and y stay as they are.

    points: (478, 3) float32 photo pixels, z negative nearer. The depth is sheared along the picture of the face's own
    x axis, which leaves a face seen from the front as it is.
    """
    rigid = list(RIGID_POINTS)
    pose = fit_similarity(face_mesh.canonical[rigid], points[rigid] * points.new_tensor(UPRIGHT))
    across = pose.rotation[:, 0] * points.new_tensor(UPRIGHT)  # the face's x axis, in the frame of the points
    seen_rad = _depth_angle(across)
    shear = math.tan(_true_turn_rad(seen_rad)) - math.tan(seen_rad)
    offset = (points[:, :2] - points[rigid, :2].mean(0)) @ F.normalize(across[:2], dim=0)  # (478,) px
    return torch.cat([points[:, :2], points[:, 2:] + shear * offset[:, None]], 1)


def _depth_angle(direction: Tensor) -> float:
    """Radians between a direction (3,) and the picture's plane; positive towards growing z."""
    return math.atan2(float(direction[2]), float(direction[:2].norm()))


def _true_turn_rad(seen_rad: float) -> float:
    """How far a face is turned whose points show it turned by `seen_rad`, either way."""
    start, end = TURN_GAIN_FADE_DEG
    share = min(max((abs(math.degrees(seen_rad)) - start) / (end - start), 0.0), 1.0)
    return seen_rad * (TURN_GAIN + (1 - TURN_GAIN) * share)


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
