"""The embedded model's mesh: topology, UV, and the smooth surface through the 468 points."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load
from torch import Tensor

from hrn_opt.builtin.weights import read_verified
from hrn_opt.geometry.mesh import (
    SeamSplit,
    Subdivision,
    boundary_vertices,
    linear_subdivision,
    loop_subdivision,
    split_seams,
)

MESH_PATH = Path(__file__).with_name("face_mesh.safetensors")
# Printed by tools/convert_face_mesh.py.
MESH_SHA256 = "41e30eccf6557b13b0f6fa9edb3e369c2a5cf162fe19aa30b42eb16d2668d233"
LEVELS = 2
# How far the surface is drawn back out to the points that Loop's averaging leaves: 1 would pass through every point
# and ripple between them; 0.6 halves the shrinkage from 1.3 to 0.5 % of the eye distance and stays smooth.
INTERPOLATION = 0.6


@dataclass(frozen=True)
class CanonicalFace:
    """The canonical face and how to refine it.

    canonical: (468, 3) float32 model frame, decimetres.
    sharpen: (468, 468) float32, points → control points.
    subdivide: control points (468, C) → surface (7257, C).
    seams: surface vertices duplicated along UV seams.
    uv: (M, 2) float32, v up, one per output vertex.
    outline_distance: (M,) float32, how far inside the face's outline each output vertex lies, in UV units.
    """

    canonical: Tensor
    sharpen: Tensor
    subdivide: Subdivision
    seams: SeamSplit
    uv: Tensor
    outline_distance: Tensor

    def surface(self, points: Tensor) -> Tensor:
        """(7257, C) smooth surface near points (468, C), float32."""
        return self.subdivide(self.sharpen @ points)


def load_face_mesh(path: Path = MESH_PATH) -> CanonicalFace:
    stored = load(read_verified(path, MESH_SHA256))
    faces, uv_faces = stored["faces"].long(), stored["uv_faces"].long()
    count = len(stored["vertices"])
    subdivide = loop_subdivision(faces, count, LEVELS)
    uv_subdivide = linear_subdivision(uv_faces, len(stored["uv_points"]), LEVELS)
    seams = split_seams(subdivide.faces, uv_subdivide.faces)
    uv = uv_subdivide(stored["uv_points"])[seams.uv_point]
    outline_distance = _outline_distance(faces, stored["uv_points"][:count])[seams.vertex]
    return CanonicalFace(stored["vertices"], _sharpen(subdivide, count), subdivide, seams, uv, outline_distance)


def _outline_distance(faces: Tensor, uv: Tensor) -> Tensor:
    """(7257,) distance to the nearest outline vertex, all in the layout before the mouth got its own patch."""
    refine = linear_subdivision(faces, len(uv), LEVELS)
    fine_uv = refine(uv)
    return torch.cdist(fine_uv, fine_uv[boundary_vertices(refine.faces)]).amin(1)


def _sharpen(subdivide: Subdivision, count: int) -> Tensor:
    """Control points whose surface passes nearer to the points: a blend of the identity and Loop's inverse."""
    identity = torch.eye(count)
    averaging = subdivide(identity)[:count]  # (468, 468) where each old vertex ends up
    return torch.lerp(identity, torch.linalg.inv(averaging), INTERPOLATION)
