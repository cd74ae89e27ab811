"""What the displacement adds to the mesh: a normal map for it, and the displaced surface as a dense mesh.

Made for viewers, so unlike the published shading normals (`detail.detail_normals`) these are the surface's own: no
margin, no turned signs, and nothing bridges a border of the mesh.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hrn_opt.geometry.mesh import boundary_edges, vertex_normals, vertex_tangents
from hrn_opt.geometry.uv import UVRaster, rasterize_uv
from hrn_opt.hrn.frames import UV_PX
from hrn_opt.types import DetailMaps, Mesh

STEPS_A_TEXEL = 16  # along a border: a corner of a cell cut by less than this goes unseen
_LEAST_BLUE = 1e-3  # glTF: never into the surface; and neutral where there is no surface
_NO_AREA_DM2 = 1e-8  # a texel is about 5e-5; rounding makes up to 1e-9 of a line


@dataclass(frozen=True)
class TexelMesh:
    """The 256² texels of a layout as a mesh.

    layout: of UV_PX a side.
    faces: (F, 3) int64 over flat texel numbers, wound as the mesh's own triangles; only where all four texels are
    covered and no border of the mesh runs between them.
    """

    layout: UVRaster
    faces: Tensor


def texel_mesh(uv: Tensor, faces: Tensor) -> TexelMesh:
    """The grid of a mesh with one UV per vertex; uv: (N, 2), v up.

    faces: (F, 3). Both on the CPU.
    """
    layout = rasterize_uv(uv, faces, UV_PX)
    covered = layout.covered
    whole = covered[:-1, :-1] & covered[:-1, 1:] & covered[1:, :-1] & covered[1:, 1:]
    kept = whole & ~_border_cells(uv, faces)
    texel = torch.arange(UV_PX * UV_PX).view(UV_PX, UV_PX)
    top_left, top_right = texel[:-1, :-1][kept], texel[:-1, 1:][kept]
    low_left, low_right = texel[1:, :-1][kept], texel[1:, 1:][kept]
    halves = [(top_left, low_left, top_right), (top_right, low_left, low_right)]
    grid_faces = torch.cat([torch.stack(corners, 1) for corners in halves])
    return TexelMesh(layout, grid_faces if _area(uv, faces) > 0 else grid_faces.flip(1))


def detail_maps(mesh: Mesh, displacement: Tensor, grid: TexelMesh) -> DetailMaps:
    """The maps and the dense mesh of one face.

    displacement: (256, 256) float32, decimetres along the normals, on the CPU.
    grid: of mesh.uv and mesh.faces.
    """
    displacement = torch.where(grid.layout.covered, displacement, 0.0)
    carried = torch.cat([mesh.vertices, mesh.normals, vertex_tangents(mesh)], 1)
    maps = grid.layout.interpolate(carried).flatten(1).T  # (65536, 10)
    flat, normals, tangents = maps[:, :3], F.normalize(maps[:, 3:6], dim=1), maps[:, 6:]
    raised = flat + displacement.view(-1, 1) * normals
    # The mesh's normals are not quite those of the grid: only the change that the displacement makes is taken over.
    change = vertex_normals(raised, grid.faces) - vertex_normals(flat, grid.faces)
    encoded = _encoded(F.normalize(normals + change, dim=1), normals, tangents)
    normal_map = np.ascontiguousarray(encoded.view(UV_PX, UV_PX, 3).numpy())
    return DetailMaps(normal_map, np.array(displacement.numpy()), _dense_mesh(raised, grid))


def _border_cells(uv: Tensor, faces: Tensor) -> Tensor:
    """(255, 255) bool: cells between four texel centres that a border of the mesh runs through."""
    ends = uv[boundary_edges(faces)] * uv.new_tensor([1, -1]) + uv.new_tensor([0, 1])  # (E, 2, 2), v down
    start, end = (ends * UV_PX - 0.5).unbind(1)
    steps = int((end - start).abs().max().ceil()) * STEPS_A_TEXEL + 1
    along = torch.linspace(0, 1, steps)[:, None, None]
    cells = (start + along * (end - start)).floor().long().view(-1, 2)
    column, row = cells[((cells >= 0) & (cells < UV_PX - 1)).all(1)].unbind(1)
    crossed = torch.zeros(UV_PX - 1, UV_PX - 1, dtype=torch.bool)
    crossed[row, column] = True
    return crossed


def _area(uv: Tensor, faces: Tensor) -> float:
    """Of the layout; negative where it shows the mesh from behind."""
    first, second = uv[faces[:, 1]] - uv[faces[:, 0]], uv[faces[:, 2]] - uv[faces[:, 0]]
    return float((first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]).sum() / 2)


def _encoded(wanted: Tensor, normals: Tensor, tangents: Tensor) -> Tensor:
    """(P, 3) uint8 of wanted normals (P, 3) in the frame that a viewer interpolates.

    normals: (P, 3) unit.
    tangents: (P, 4) interpolated, not unit. The frame need not be orthogonal between vertices,
    so it is inverted, not transposed.
    """
    tangent = F.normalize(tangents[:, :3], dim=1)
    bitangent = F.normalize(torch.linalg.cross(normals, tangent), dim=1) * tangents[:, 3:].sign()
    axes = (tangent, bitangent, normals)
    inverse = [torch.linalg.cross(axes[(k + 1) % 3], axes[(k + 2) % 3]) for k in range(3)]
    determinant = (tangent * inverse[0]).sum(1)
    local = torch.stack([(wanted * row).sum(1) * determinant.sign() for row in inverse], 1)
    local[:, 2].clamp_(min=_LEAST_BLUE)
    return (F.normalize(local, dim=1).add(1).mul(255 / 2)).round().clamp(0, 255).byte()


def _dense_mesh(points: Tensor, grid: TexelMesh) -> Mesh:
    """points: (65536, 3) of the texels."""
    a, b, c = points[grid.faces].unbind(1)
    faces = grid.faces[torch.linalg.cross(b - a, c - a).norm(dim=1) / 2 > _NO_AREA_DM2]
    used, numbers = faces.unique(return_inverse=True)
    row, column = torch.div(used, UV_PX, rounding_mode="floor"), used % UV_PX
    uv = torch.stack([(column + 0.5) / UV_PX, 1 - (row + 0.5) / UV_PX], 1)
    return Mesh(points[used], numbers, vertex_normals(points[used], numbers), uv)
