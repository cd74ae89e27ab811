"""Triangle topology: normals, tangents, Loop subdivision, and the split of vertices along UV seams."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from hrn_opt.geometry.sparse import SparseMap
from hrn_opt.types import Mesh

_NO_DIRECTION = 1e-6  # a sum of unit tangents shorter than this points nowhere

Entries = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.floating[Any]]]  # rows, columns, weights


@dataclass(frozen=True)
class Subdivision:
    """A linear map from coarse to fine vertices, one step a level.

    steps: each maps the vertices of one level to the next.
    faces: (4^levels · F, 3) int64.
    """

    steps: tuple[SparseMap, ...]
    faces: Tensor

    def __call__(self, values: Tensor) -> Tensor:
        """(M, C) fine values of (N, C) float32 coarse ones."""
        for step in self.steps:
            values = step(values)
        return values


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """(N, 3) unit normals, faces weighted by area; (0, 0, 1) for a vertex whose faces have none.

    vertices: (N, 3).
    faces: (F, 3) int64, counter-clockwise from outside.
    """
    a, b, c = vertices[faces].unbind(1)
    face_normals = torch.linalg.cross(b - a, c - a)  # (F, 3), length = 2 × area
    sums = torch.zeros_like(vertices)
    for corner in range(3):
        sums.index_add_(0, faces[:, corner], face_normals)
    length = sums.norm(dim=1, keepdim=True)
    forward = sums.new_tensor([0.0, 0.0, 1.0])
    return torch.where(length > 1e-12, sums / length.clamp(min=1e-12), forward)


def vertex_tangents(mesh: Mesh) -> Tensor:
    """(N, 4): unit tangents along +u, then ±1: bitangent (along +v) = that · cross(normal, tangent).

    What MikkTSpace (Mikkelsen 2008), and so Blender and glTF, gives a mesh with one normal and one UV a vertex:
    each triangle's direction of u laid into the vertex's plane, weighted by the angle there.
    """
    corners, uv = mesh.vertices[mesh.faces], mesh.uv[mesh.faces]
    (du1, dv1), (du2, dv2) = (uv[:, k].sub(uv[:, 0]).unbind(1) for k in (1, 2))
    turn = (du1 * dv2 - du2 * dv1).sign()  # (F,) -1 where the layout is mirrored
    first, second = (corners[:, k] - corners[:, 0] for k in (1, 2))
    along_u = (dv2[:, None] * first - dv1[:, None] * second) * turn[:, None]  # (F, 3)
    sums, turns = torch.zeros_like(mesh.vertices), torch.zeros_like(mesh.vertices[:, 0])
    for corner in range(3):
        vertex = mesh.faces[:, corner]
        normal, here = mesh.normals[vertex], corners[:, corner]
        sides = [_laid_into(corners[:, (corner + step) % 3] - here, normal) for step in (1, 2)]
        angle = (sides[0] * sides[1]).sum(1, keepdim=True).clamp(-1, 1).acos()
        sums.index_add_(0, vertex, _laid_into(along_u, normal) * angle)
        turns.index_add_(0, vertex, turn)
    tangent = torch.where(sums.norm(dim=1, keepdim=True) > _NO_DIRECTION, sums, _any_across(mesh.normals))
    return torch.cat([F.normalize(tangent, dim=1), torch.where(turns < 0, -1.0, 1.0)[:, None]], 1)


def _laid_into(vectors: Tensor, normals: Tensor) -> Tensor:
    """(N, 3) unit vectors: what of `vectors` is perpendicular to the unit `normals`."""
    return F.normalize(vectors - (vectors * normals).sum(1, keepdim=True) * normals, dim=1, eps=1e-20)


def _any_across(normals: Tensor) -> Tensor:
    """(N, 3) vectors perpendicular to the normals, towards +x where that is possible."""
    x, y = normals.new_tensor([[1.0, 0, 0], [0, 1, 0]])
    axis = torch.where(normals[:, :1].abs() < 0.9, x, y)
    return axis - (axis * normals).sum(1, keepdim=True) * normals


def loop_subdivision(faces: Tensor, vertex_count: int, levels: int) -> Subdivision:
    """Loop's subdivision (Loop 1987, with Warren's weights) of a manifold mesh with or without boundary.

    faces: (F, 3) int64 over vertex_count vertices.
    """
    return _subdivision(faces, vertex_count, levels, _loop_entries)


def linear_subdivision(faces: Tensor, point_count: int, levels: int) -> Subdivision:
    """The same split with new points at edge midpoints and old points unmoved: for UV coordinates."""
    return _subdivision(faces, point_count, levels, _midpoint_entries)


@dataclass(frozen=True)
class SeamSplit:
    """Vertices duplicated where they carry several UV points, as GLB and OBJ viewers need.

    vertex: (M,) int64, the geometry vertex of each output vertex.
    uv_point: (M,) int64, its UV point.
    faces: (F, 3) int64 over the output vertices.
    """

    vertex: Tensor
    uv_point: Tensor
    faces: Tensor


def split_seams(faces: Tensor, uv_faces: Tensor) -> SeamSplit:
    """One output vertex for each (geometry vertex, UV point) pair in use.

    faces, uv_faces: (F, 3) int64, corner for corner.
    """
    pairs = torch.stack([faces.reshape(-1), uv_faces.reshape(-1)], 1)  # (3F, 2)
    unique, inverse = torch.unique(pairs, dim=0, return_inverse=True)
    return SeamSplit(unique[:, 0].contiguous(), unique[:, 1].contiguous(), inverse.view(-1, 3))


def boundary_edges(faces: Tensor) -> Tensor:
    """(E, 2) int64: the edges that only one triangle uses, by their vertices."""
    edges = _Edges.of(faces.numpy(), int(faces.max()) + 1)
    return torch.from_numpy(edges.ends[edges.uses == 1])


def boundary_vertices(faces: Tensor) -> Tensor:
    """(B,) int64, ascending: the vertices on boundary edges."""
    vertices: Tensor = boundary_edges(faces).unique()
    return vertices


def _subdivision(faces: Tensor, count: int, levels: int, entries_of: Callable[[_Edges], list[Entries]]) -> Subdivision:
    steps, topology = [], faces.numpy()
    for _ in range(levels):
        edges = _Edges.of(topology, count)
        rows, columns, weights = (np.concatenate(part) for part in zip(*entries_of(edges), strict=True))
        steps.append(SparseMap.from_entries(rows, columns, weights, count + len(edges.ends)))
        topology, count = _split_faces(topology, edges), count + len(edges.ends)
    return Subdivision(tuple(steps), torch.from_numpy(topology))


@dataclass(frozen=True)
class _Edges:
    """The undirected edges of a mesh.

    ends: (E, 2) vertex numbers.
    of_side: (3F,) edge of each triangle side, sides 01, 12, 20 one after another.
    opposite: (3F,) the corner across each side.
    uses: (E,) triangles at the edge, 1 on the boundary.
    vertex_count: how many vertices there are; a new vertex's number is vertex_count + its edge's.
    """

    ends: NDArray[np.int64]
    of_side: NDArray[np.int64]
    opposite: NDArray[np.int64]
    uses: NDArray[np.int64]
    vertex_count: int

    @classmethod
    def of(cls, faces: NDArray[np.int64], vertex_count: int) -> _Edges:
        sides = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), 1)
        codes = sides[:, 0].astype(np.int64) * vertex_count + sides[:, 1]
        unique, of_side, uses = np.unique(codes, return_inverse=True, return_counts=True)
        ends = np.stack([unique // vertex_count, unique % vertex_count], 1)
        opposite = np.concatenate([faces[:, 2], faces[:, 0], faces[:, 1]])
        return cls(ends, of_side, opposite, uses, vertex_count)

    @property
    def new_vertices(self) -> NDArray[np.int64]:
        return self.vertex_count + np.arange(len(self.ends))


def _split_faces(faces: NDArray[np.int64], edges: _Edges) -> NDArray[np.int64]:
    """Each triangle as four, the corner ones first."""
    a, b, c = faces.T
    ab, bc, ca = edges.new_vertices[edges.of_side].reshape(3, -1)
    return np.concatenate([np.stack(t, 1) for t in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))])


def _midpoint_entries(edges: _Edges) -> list[Entries]:
    half = np.full(len(edges.ends), 0.5)
    kept = np.arange(edges.vertex_count)
    ends = [(edges.new_vertices, edges.ends[:, end], half) for end in (0, 1)]
    return [*ends, (kept, kept, np.ones(edges.vertex_count))]


def _loop_entries(edges: _Edges) -> list[Entries]:
    return _new_vertex_entries(edges) + _old_vertex_entries(edges)


def _new_vertex_entries(edges: _Edges) -> list[Entries]:
    """3/8 of each end and 1/8 of each opposite corner; the midpoint on the boundary."""
    end_weight = np.where(edges.uses == 2, 3 / 8, 1 / 2)
    inner = edges.uses[edges.of_side] == 2
    across = np.full(int(inner.sum()), 1 / 8)
    ends = [(edges.new_vertices, edges.ends[:, end], end_weight) for end in (0, 1)]
    return [*ends, (edges.new_vertices[edges.of_side[inner]], edges.opposite[inner], across)]


def _old_vertex_entries(edges: _Edges) -> list[Entries]:
    """1 - n·beta of the vertex itself and beta of each neighbour; 3/4 and 1/8 along a boundary."""
    count = edges.vertex_count
    boundary = edges.ends[edges.uses == 1]
    on_boundary = np.zeros(count, bool)
    on_boundary[boundary] = True
    valence = np.bincount(edges.ends.ravel(), minlength=count)
    beta = np.where(valence == 3, 3 / 16, 3 / (8 * np.maximum(valence, 1)))
    own = np.where(on_boundary, 3 / 4, 1 - valence * beta)
    entries = [(np.arange(count), np.arange(count), own)]
    for start, end in ((0, 1), (1, 0)):
        inner = ~on_boundary[edges.ends[:, start]]
        entries.append((edges.ends[inner, start], edges.ends[inner, end], beta[edges.ends[inner, start]]))
        entries.append((boundary[:, start], boundary[:, end], np.full(len(boundary), 1 / 8)))
    return entries
