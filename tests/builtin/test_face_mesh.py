"""The embedded mesh: its counts, its topology, its symmetry, its layout."""

import pytest
import torch
from torch.testing import assert_close

from hrn_opt.builtin.points import MESH_COUNT, OUTER_EYE_CORNERS
from hrn_opt.geometry.mesh import boundary_vertices


def directed_edges(faces):
    return torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])


def nearest(points, others):
    return torch.cdist(points, others, compute_mode="donot_use_mm_for_euclid_dist").amin(1)


def signed_uv_areas(face_mesh):
    a, b, c = face_mesh.uv[face_mesh.seams.faces].unbind(1)
    first, second = b - a, c - a
    return (first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]) / 2


def test_counts(face_mesh):
    assert face_mesh.canonical.shape == (MESH_COUNT, 3)
    assert face_mesh.surface(face_mesh.canonical).shape == (7257, 3)
    assert face_mesh.subdivide.faces.shape == face_mesh.seams.faces.shape == (14368, 3)
    assert face_mesh.uv.shape == (len(face_mesh.seams.vertex), 2)
    assert face_mesh.outline_distance.shape == face_mesh.seams.vertex.shape
    assert torch.equal(face_mesh.seams.vertex[face_mesh.seams.faces], face_mesh.subdivide.faces)


def test_it_is_one_disc_wound_one_way(face_mesh):
    faces = face_mesh.subdivide.faces
    edges = directed_edges(faces)
    assert len(edges.unique(dim=0)) == len(edges)  # no side is walked twice in one direction
    undirected, uses = edges.sort(1).values.unique(dim=0, return_counts=True)
    assert uses.max() == 2 and int((uses == 1).sum()) == 36 * 4
    assert len(faces.unique()) - len(undirected) + len(faces) == 1  # Euler's number of a disc
    a, b, c = face_mesh.surface(face_mesh.canonical)[faces].unbind(1)
    assert torch.linalg.cross(b - a, c - a).sum(0)[2] > 0  # counter-clockwise seen from the front


def test_it_is_mirror_symmetric(face_mesh):
    mirrored = face_mesh.canonical * torch.tensor([-1.0, 1, 1])
    assert nearest(mirrored, face_mesh.canonical).max() < 1e-6
    assert_close(mirrored[OUTER_EYE_CORNERS[0]], face_mesh.canonical[OUTER_EYE_CORNERS[1]])
    flipped_uv = face_mesh.uv * torch.tensor([-1.0, 1]) + torch.tensor([1.0, 0])
    assert nearest(flipped_uv, face_mesh.uv).max() < 1e-5  # so that mirroring a texture is flipping the picture
    surface = face_mesh.surface(face_mesh.canonical)
    assert nearest(surface * torch.tensor([-1.0, 1, 1]), surface).max() < 1e-4


def test_the_picture_left_is_the_layout_left(face_mesh):
    surface = face_mesh.surface(face_mesh.canonical)[face_mesh.seams.vertex]
    side, u = surface[:, 0], face_mesh.uv[:, 0] - 0.5
    away = side.abs() > 0.05
    assert (side[away].sign() == u[away].sign()).all()


def test_uv_lies_in_the_square_without_folds_or_overlap(face_mesh, builtin):
    assert face_mesh.uv.min() > 0 and face_mesh.uv.max() < 1
    areas = signed_uv_areas(face_mesh)
    assert (areas > 0).all()
    # Texels covered by the layout against the area of all triangles: they would differ if patches overlapped.
    assert float(builtin.layout.uv.covered.float().mean()) == pytest.approx(float(areas.sum()), rel=2e-3)


def test_surface_passes_near_the_points(face_mesh):
    eye_distance = (face_mesh.canonical[OUTER_EYE_CORNERS[0]] - face_mesh.canonical[OUTER_EYE_CORNERS[1]]).norm()
    missed = (face_mesh.surface(face_mesh.canonical)[:MESH_COUNT] - face_mesh.canonical).norm(dim=1) / eye_distance
    assert missed.mean() < 0.006 and missed.max() < 0.02  # half a percent is what sharpening leaves


def test_surface_follows_moves_turns_and_scale(face_mesh):
    moved = (
        face_mesh.canonical @ torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)))[0] * 3 + 5
    )
    fit = torch.linalg.lstsq(torch.cat([face_mesh.canonical, torch.ones(MESH_COUNT, 1)], 1), moved).solution
    surface = face_mesh.surface(face_mesh.canonical)
    assert_close(face_mesh.surface(moved), surface @ fit[:3] + fit[3], atol=5e-5, rtol=0)


def test_outline_distance_grows_from_the_boundary(face_mesh):
    on_boundary = torch.isin(face_mesh.seams.vertex, boundary_vertices(face_mesh.subdivide.faces))
    assert face_mesh.outline_distance[on_boundary].max() < 1e-3  # float32 distances by matrix product: 5e-4
    assert face_mesh.outline_distance[~on_boundary].min() > 5e-3
    nose = (face_mesh.seams.vertex == 4).nonzero().flatten()
    assert face_mesh.outline_distance[nose].min() > 0.3


def test_layout_reproduces_uv_with_its_gutter(builtin):
    layout, size = builtin.layout.uv, builtin.layout.uv.size
    uv = layout.interpolate(builtin.face_mesh.uv)
    along = (torch.arange(size) + 0.5) / size
    v, u = torch.meshgrid(1 - along, along, indexing="ij")
    texels_off = (uv - torch.stack([u, v])).norm(dim=0) * size
    assert texels_off[layout.covered].max() < 1e-3
    # The first texel past the rim, which bilinear sampling reads, holds the rim next to it.
    grown = torch.nn.functional.max_pool2d(layout.covered[None].float(), 3, stride=1, padding=1)[0] > 0
    assert texels_off[grown & ~layout.covered].max() < 2.5
