"""HRN's mesh as published, and the camera that lays it over the photo."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from hrn_opt.hrn.align.face_crop import Placement
from hrn_opt.hrn.find.faces import WorkingPhoto
from hrn_opt.hrn.frames import CAMERA_DISTANCE_DM, CENTRE_PX, CROP_PX, FOCAL_PX
from hrn_opt.hrn.stages import Assets
from hrn_opt.types import Camera, Mesh


def face_mesh(vertices: Tensor, assets: Assets) -> Mesh:
    """The mesh on the CPU; vertices (N, 3), viewer's frame, decimetres, posed as in the photo."""
    triangles = assets.morphable.triangles
    return Mesh(vertices.cpu(), triangles.cpu(), output_normals(vertices, triangles).cpu(), assets.uv.cpu())


def output_normals(vertices: Tensor, triangles: Tensor) -> Tensor:
    """(N, 3) unit normals, each triangle counted alike; (0, 0, 1) where there is no area.

    PARITY: unlike the normals for shading, these take every triangle round a vertex; test_mesh.py pins it. Source:
    estimate_normals in the official utils.py.
    """
    a, b, c = vertices[triangles].unbind(1)
    forward = vertices.new_tensor([0.0, 0.0, 1.0])
    of_face = torch.linalg.cross(b - a, c - a)
    of_face = torch.where((of_face == 0).all(1, keepdim=True), forward, F.normalize(of_face, dim=1, eps=0.0))
    total = torch.zeros_like(vertices)
    for corner in triangles.unbind(1):
        total.index_add_(0, corner, of_face)
    return torch.where((total == 0).all(1, keepdim=True), forward, F.normalize(total, dim=1, eps=0.0))


def photo_camera(placement: Placement, working: WorkingPhoto) -> Camera:
    """From the viewer's frame to photo pixels: HRN's pinhole camera, then the crop's place in the photo."""
    # (x·f + c·w, c·w − y·f, depth·w, w) with w = 10 − z, the distance from the camera.
    pinhole = torch.tensor(
        [
            [FOCAL_PX, 0, -CENTRE_PX, CENTRE_PX * CAMERA_DISTANCE_DM],
            [0, -FOCAL_PX, -CENTRE_PX, CENTRE_PX * CAMERA_DISTANCE_DM],
            [0, 0, 0, 0],
            [0, 0, -1, CAMERA_DISTANCE_DM],
        ],
        dtype=torch.float64,
    )
    # PARITY: upstream renders with pixel centres at +0.5 but unwraps with centres on whole numbers. The texture is
    # fitted through the renderer, so its convention lays the face over the photo; test_mesh.py pins it.
    corners = torch.tensor([[0.0, 0.0], [CROP_PX, CROP_PX]], dtype=torch.float64)
    low, high = placement.to_photo(corners, working.photo_size_hw)
    scale = (high - low) / CROP_PX
    matrix = torch.zeros(4, 4, dtype=torch.float64)
    matrix[0] = scale[0] * pinhole[0] + low[0] * pinhole[3]
    matrix[1] = scale[1] * pinhole[1] + low[1] * pinhole[3]
    matrix[2, :] = 0
    matrix[3] = pinhole[3]
    return Camera(_with_depth(matrix).float())


def _with_depth(matrix: Tensor) -> Tensor:
    """Depth grows with the distance w and stays linear on screen: 1 − 1 / w, as rows of (depth·w) = w − 1."""
    matrix = matrix.clone()
    matrix[2] = matrix[3]
    matrix[2, 3] -= 1
    return matrix
