"""Normals, Loop subdivision and seams, on shapes whose answers are known."""

import math

import pytest
import torch
from torch.testing import assert_close

from hrn_opt.geometry.mesh import boundary_vertices, linear_subdivision, loop_subdivision, split_seams, vertex_normals

TETRAHEDRON = torch.tensor([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])


def sphere(levels):
    """Unit sphere from an octahedron, faces counter-clockwise from outside."""
    vertices = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0], [0, -1, 0], [0, 0, -1]])
    faces = torch.tensor([[0, 1, 2], [1, 3, 2], [3, 4, 2], [4, 0, 2], [1, 0, 5], [3, 1, 5], [4, 3, 5], [0, 4, 5]])
    split = linear_subdivision(faces, 6, levels)
    fine = split(vertices)
    return fine / fine.norm(dim=1, keepdim=True), split.faces


def sheet(rows, columns):
    """A sheared regular grid: every inner vertex has six neighbours, placed point-symmetrically round it."""
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    number = torch.arange(rows * columns).view(rows, columns)
    a, b, c, d = (part.flatten() for part in (number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]))
    vertices = torch.stack([x + 0.3 * y, 1.7 * y, 2 * x - y], -1).view(-1, 3).float()
    return vertices, torch.cat([torch.stack([a, b, d], 1), torch.stack([a, d, c], 1)])


def directed_edges(faces):
    return torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])


def test_sphere_normals_point_outwards():
    vertices, faces = sphere(3)
    normals = vertex_normals(vertices, faces)
    assert_close(normals.norm(dim=1), torch.ones(len(vertices)))
    # Area weighting on uneven triangles about 11 degrees wide: measured 1.8 degrees at worst.
    assert (normals * vertices).sum(1).min() > math.cos(math.radians(2.5))


def test_normals_weigh_faces_by_area():
    vertices = torch.tensor([[0.0, 0, 0], [3, 0, 0], [0, 3, 0], [0, 0, 1]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])  # +z with area 4.5, +x with area 1.5
    assert_close(vertex_normals(vertices, faces)[0], torch.tensor([1.0, 0, 3.0]) / 10**0.5)


def test_vertices_without_area_look_forward():
    vertices = torch.tensor([[0.0, 0, 0], [1, 1, 1], [2, 2, 2], [5, 5, 5]])
    normals = vertex_normals(vertices, torch.tensor([[0, 1, 2]]))  # a line, and one vertex of no face
    assert_close(normals, torch.tensor([[0.0, 0.0, 1.0]]).expand(4, 3))


def test_loop_on_a_tetrahedron_has_the_published_weights():
    loop = loop_subdivision(TETRAHEDRON, 4, 1)
    weights = loop(torch.eye(4))  # (10, 4) one row a fine vertex
    assert weights.shape == (10, 4) and loop.faces.shape == (16, 3)
    for vertex in range(4):  # valence 3: beta = 3/16 (Warren), 1 - 3 · 3/16 for the vertex itself
        expected = torch.full((4,), 3 / 16)
        expected[vertex] = 7 / 16
        assert_close(weights[vertex], expected)
    expected = torch.tensor([1 / 8, 1 / 8, 3 / 8, 3 / 8])
    assert_close(weights[4:].sort(1).values, expected.expand(6, 4))


def test_loop_at_valence_6_and_at_the_boundary():
    vertices, faces = sheet(5, 6)
    weights = loop_subdivision(faces, len(vertices), 1)(torch.eye(len(vertices)))
    inner = 2 * 6 + 3
    assert weights[inner, inner] == 10 / 16
    neighbours = weights[inner].nonzero().flatten().tolist()
    assert neighbours == sorted([inner, inner - 1, inner + 1, inner - 6, inner + 6, inner - 7, inner + 7])
    others = weights[inner, [inner - 1, inner + 1, inner - 6, inner + 6, inner - 7, inner + 7]]
    assert_close(others, torch.full((6,), 1 / 16))
    rim = 3  # on the first row: only its two neighbours along the boundary count
    assert weights[rim].nonzero().flatten().tolist() == [2, 3, 4]
    assert_close(weights[rim, 2:5], torch.tensor([1 / 8, 3 / 4, 1 / 8]))


@pytest.mark.parametrize("levels", [1, 2])
def test_loop_rows_sum_to_one_and_counts_grow_fourfold(levels):
    vertices, faces = sheet(4, 7)
    loop = loop_subdivision(faces, len(vertices), levels)
    fine = loop(torch.ones(len(vertices), 1))
    assert_close(fine, torch.ones_like(fine))
    assert len(loop.faces) == 4**levels * len(faces)
    assert int(loop.faces.max()) + 1 == len(fine)


def test_loop_keeps_a_flat_regular_sheet():
    vertices, faces = sheet(5, 6)
    fine = loop_subdivision(faces, len(vertices), 1)(vertices)
    moved = (fine[: len(vertices)] - vertices).norm(dim=1).view(5, 6)
    moved[0, 0] = moved[0, -1] = moved[-1, 0] = moved[-1, -1] = 0  # Loop rounds off the boundary's corners
    assert moved.max() < 1e-6
    midpoints = linear_subdivision(faces, len(vertices), 1)(vertices)
    assert_close(fine[len(vertices) :], midpoints[len(vertices) :])


def test_subdivision_keeps_winding_and_closes_what_was_closed():
    ball, faces = sphere(1)
    fine_faces = loop_subdivision(faces, len(ball), 2).faces
    edges = directed_edges(fine_faces)
    assert len(edges.unique(dim=0)) == len(edges)  # no side is walked twice in one direction
    assert set(map(tuple, edges.tolist())) == set(map(tuple, edges.flip(1).tolist()))  # each is walked back once
    fine = loop_subdivision(faces, len(ball), 2)(ball)
    assert ((vertex_normals(fine, fine_faces) * fine).sum(1) > 0).all()


def test_linear_subdivision_moves_nothing():
    vertices, faces = sheet(3, 4)
    split = linear_subdivision(faces, len(vertices), 1)
    fine = split(vertices)
    assert torch.equal(fine[: len(vertices)], vertices)
    corner_faces = split.faces[: 3 * len(faces)]
    coarse_area = torch.linalg.cross(*(vertices[faces[:, k]] - vertices[faces[:, 0]] for k in (1, 2))).norm(dim=1).sum()
    fine_area = (
        torch.linalg.cross(*(fine[split.faces[:, k]] - fine[split.faces[:, 0]] for k in (1, 2))).norm(dim=1).sum()
    )
    assert_close(fine_area, coarse_area)
    assert (corner_faces.amin(1) < len(vertices)).all()


def test_boundary():
    _, faces = sheet(4, 5)
    number = torch.arange(20).view(4, 5)
    inner = number[1:-1, 1:-1].flatten().tolist()
    assert boundary_vertices(faces).tolist() == [vertex for vertex in range(20) if vertex not in inner]
    assert len(boundary_vertices(TETRAHEDRON)) == 0


def test_seam_split_keeps_geometry_and_uv():
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    uv_faces = torch.tensor([[7, 5, 6], [7, 4, 3]])  # vertex 2 has UV points 6 and 4, vertex 0 only 7
    split = split_seams(faces, uv_faces)
    assert torch.equal(split.vertex[split.faces], faces)
    assert torch.equal(split.uv_point[split.faces], uv_faces)
    assert len(split.vertex) == 5
    assert sorted(zip(split.vertex.tolist(), split.uv_point.tolist(), strict=True)) == [
        (0, 7),
        (1, 5),
        (2, 4),
        (2, 6),
        (3, 3),
    ]
