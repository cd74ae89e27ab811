"""Normal map, displacement map and dense mesh: against slopes that are known, and read back by other readers."""

import io

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from torch.nn import functional as F
from torch.testing import assert_close

import hrn_opt
from hrn_opt import pipeline
from hrn_opt.errors import OptionInvalid
from hrn_opt.geometry.mesh import vertex_normals, vertex_tangents
from hrn_opt.hrn import model as hrn_model
from hrn_opt.hrn.output.detail_maps import detail_maps, texel_mesh
from hrn_opt.output import export
from hrn_opt.types import Box, Camera, DetailMaps, Face, Mesh, Reconstruction, UVTexture, Want
from tests.hrn.crowd import PHOTO, faces
from tests.output.test_export import area_m2, khronos_messages, parse_glb

WIDTH, HEIGHT = 2.0, 1.5  # decimetres of the sheet; unequal, so that swapped axes show
NEUTRAL_RGB = (128, 128, 255)
DETAIL_FORMATS = ("normal", "displacement", "dense", "lit")


def sheet(bend=0.0, mirrored=False, hole=False, slit=False, count=24):
    """A sheet facing +z, x along u (or against it, mirrored) and y along v.

    hole: without its middle.
    slit: cut along v = 0.5 for half its width, the upper lip 0.3 dm before the lower one.
    """
    u, v = torch.meshgrid(torch.linspace(0.1, 0.9, count), torch.linspace(0.1, 0.9, count), indexing="xy")
    across, up = (u.flatten() - 0.5) / 0.8, (v.flatten() - 0.5) / 0.8
    side = -1 if mirrored else 1
    vertices = torch.stack([side * across * WIDTH, up * HEIGHT, -bend * across**2], 1)
    uv = torch.stack([u.flatten(), v.flatten()], 1)
    index = torch.arange(count * count).view(count, count)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    kept = torch.ones_like(a, dtype=torch.bool)
    if hole:
        kept[10:13, 10:13] = False
    halves = [torch.stack([corner[kept] for corner in half], 1) for half in ((a, b, c), (c, b, d))]
    triangles = torch.cat(halves)
    if slit:
        vertices, uv, triangles = _slit(vertices, uv, triangles, index)
    triangles = triangles.flip(1) if mirrored else triangles
    return Mesh(vertices, triangles, vertex_normals(vertices, triangles), uv)


def _slit(vertices, uv, triangles, index):
    row, stop = len(index) // 2, len(index) // 2
    lower = index[row, :stop]
    upper = torch.arange(stop) + len(vertices)
    renamed = torch.arange(len(vertices))
    renamed[lower] = upper
    above = triangles.amax(1) >= index[row + 1, 0]
    triangles = torch.where(above[:, None], renamed[triangles], triangles)
    vertices, uv = torch.cat([vertices, vertices[lower]]), torch.cat([uv, uv[lower]])
    lifted = triangles[above].unique()
    vertices = vertices.clone()
    vertices[lifted, 2] += torch.where(vertices[lifted, 0] < 0, 0.3, 0.0)
    return vertices, uv, triangles


def texel_uv():
    """u and v, (256, 256) each, of the texels' centres."""
    centre = (torch.arange(256) + 0.5) / 256
    return centre[None].expand(256, 256), (1 - centre)[:, None].expand(256, 256)


def waves(depth=0.03):
    """(256, 256) displacement, and its slopes along +u and +v for a unit of each."""
    u, v = texel_uv()
    k, m = 20.0, 13.0
    height = depth * torch.sin(k * u + 1) * torch.cos(m * v)
    return (
        height,
        depth * k * torch.cos(k * u + 1) * torch.cos(m * v),
        -depth * m * torch.sin(k * u + 1) * torch.sin(m * v),
    )


def maps_of(mesh, displacement=None) -> DetailMaps:
    displacement = torch.zeros(256, 256) if displacement is None else displacement
    return detail_maps(mesh, displacement, texel_mesh(mesh.uv, mesh.faces))


def decoded(normal_map):
    return torch.from_numpy(normal_map).float() / 127.5 - 1


@pytest.mark.parametrize("bend", [0.0, 0.6])
def test_nothing_displaced_is_neutral_everywhere(bend):
    assert (maps_of(sheet(bend)).normal_map == NEUTRAL_RGB).all()


@pytest.mark.parametrize("mirrored", [False, True])
def test_normals_lean_against_the_slopes_along_u_and_v(mirrored):
    """Red along +u and green along +v, whichever way round the layout shows the sheet."""
    height, along_u, along_v = waves()
    found = maps_of(sheet(mirrored=mirrored), height).normal_map
    expected = F.normalize(
        torch.stack([-along_u * 0.8 / WIDTH, -along_v * 0.8 / HEIGHT, torch.ones(256, 256)], 2), dim=2
    )
    inside = np.s_[32:-32, 32:-32]
    assert_close(decoded(found)[inside], expected[inside], atol=1 / 127, rtol=0)  # one level, of which rounding is half
    assert (found[:20] == NEUTRAL_RGB).all()
    assert_close(decoded(found)[inside].norm(dim=2), torch.ones(192, 192), atol=1 / 127, rtol=0)


def test_decoded_in_the_viewers_frame_gives_the_displaced_surfaces_normals():
    mesh, (height, _, _) = sheet(bend=0.6), waves(0.02)
    grid = texel_mesh(mesh.uv, mesh.faces)
    maps = detail_maps(mesh, height, grid)
    tangents = vertex_tangents(mesh)
    carried = grid.layout.interpolate(torch.cat([mesh.normals, tangents[:, :3]], 1)).permute(1, 2, 0)
    normal, tangent = F.normalize(carried[..., :3], dim=2), F.normalize(carried[..., 3:], dim=2)
    axes = torch.stack([tangent, torch.linalg.cross(normal, tangent), normal], 3)  # columns
    seen = F.normalize((axes @ decoded(maps.normal_map)[..., None])[..., 0], dim=2)
    dense = maps.dense_mesh
    column, row = (dense.uv[:, 0] * 256).long(), ((1 - dense.uv[:, 1]) * 256).long()
    inner = (column > 32) & (column < 224) & (row > 32) & (row < 224)
    difference = (seen[row, column] - dense.normals)[inner].abs()
    # The map adds the change to the mesh's smooth normals, the dense mesh has facets of the coarse one under it.
    assert torch.quantile(difference, 0.9) < 1 / 127 and difference.max() < 0.04
    assert (dense.normals - normal[row, column])[inner].abs().max() > 0.1  # else there was nothing to reproduce


def test_turning_the_face_leaves_its_map_alone():
    mesh, (height, _, _) = sheet(bend=0.6), waves()
    turn = torch.linalg.matrix_exp(torch.tensor([[0.0, -0.4, 0.9], [0.4, 0.0, -0.2], [-0.9, 0.2, 0.0]]))
    turned = Mesh(mesh.vertices @ turn.T, mesh.faces, mesh.normals @ turn.T, mesh.uv)
    first, second = maps_of(mesh, height).normal_map.astype(int), maps_of(turned, height).normal_map
    assert np.abs(first - second).max() <= 1 and (first != NEUTRAL_RGB).any()


def test_blue_never_points_inwards():
    """Not even where the surface is turned inside out: pushed in by more than the ridge's radius of 0.5 dm."""
    found = maps_of(sheet(bend=4.0), torch.full((256, 256), -1.0)).normal_map
    assert found[..., 2].min() >= 127
    assert_close(decoded(found).norm(dim=2), torch.ones(256, 256), atol=1 / 127, rtol=0)


@pytest.mark.parametrize("mirrored, expected", [(False, [1.0, 0, 0, 1]), (True, [-1.0, 0, 0, -1])])
def test_tangents_of_a_flat_sheet(mirrored, expected):
    assert_close(vertex_tangents(sheet(mirrored=mirrored)), torch.tensor([expected]).expand(576, 4))


def test_tangents_weigh_triangles_by_their_angle():
    """90° of a triangle whose u runs along x, 45° of one whose u runs along x − y."""
    uv = torch.tensor([[0.0, 0], [1, 0], [0, 1], [-1, 0]])
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [-1, 1, 0]])
    normals = torch.tensor([[0.0, 0, 1]]).expand(4, 3)
    tangents = vertex_tangents(Mesh(vertices, torch.tensor([[0, 1, 2], [0, 2, 3]]), normals, uv))
    expected = F.normalize(torch.tensor([90 + 45 / 2**0.5, -45 / 2**0.5, 0]), dim=0)
    assert_close(tangents[0], torch.cat([expected, torch.ones(1)]))


def test_tangents_are_unit_and_across_even_without_a_layout():
    mesh = sheet(bend=0.6)
    for uv in (mesh.uv, torch.zeros_like(mesh.uv)):
        tangents = vertex_tangents(Mesh(mesh.vertices, mesh.faces, mesh.normals, uv))
        assert_close(tangents[:, :3].norm(dim=1), torch.ones(len(uv)), atol=1e-6, rtol=0)
        assert (tangents[:, :3] * mesh.normals).sum(1).abs().max() < 1e-5
        assert (tangents[:, 3].abs() == 1).all()


@pytest.mark.parametrize("mirrored", [False, True])
def test_dense_mesh_of_nothing_displaced_is_the_mesh(mirrored):
    mesh = sheet(bend=0.6, mirrored=mirrored)
    dense = maps_of(mesh).dense_mesh
    assert area_m2(dense) == pytest.approx(area_m2(mesh), rel=0.02)  # up to a texel of 205 is missing at each rim
    assert area_m2(dense) < area_m2(mesh)
    a, b, c = dense.vertices[dense.faces].unbind(1)
    facing = torch.linalg.cross(b - a, c - a)
    assert (facing[:, 2] > 0).all() and (facing.norm(dim=1) > 1e-6).all() and (dense.normals[:, 2] > 0).all()
    assert torch.equal(dense.faces.unique(), torch.arange(len(dense.vertices)))
    side = -1 if mirrored else 1
    assert_close(dense.vertices[:, 0], side * (dense.uv[:, 0] - 0.5) / 0.8 * WIDTH, atol=1e-5, rtol=0)
    assert_close(dense.vertices[:, 1], (dense.uv[:, 1] - 0.5) / 0.8 * HEIGHT, atol=1e-5, rtol=0)


def test_dense_mesh_is_displaced_along_the_normals():
    height, _, _ = waves()
    maps = maps_of(sheet(), height)
    column, row = (maps.dense_mesh.uv[:, 0] * 256).long(), ((1 - maps.dense_mesh.uv[:, 1]) * 256).long()
    assert_close(maps.dense_mesh.vertices[:, 2], height[row, column], atol=1e-5, rtol=0)
    covered = torch.from_numpy(maps.displacement_map) != 0
    assert (torch.from_numpy(maps.displacement_map) == torch.where(covered, height, 0)).all()
    assert 190**2 < covered.sum() < 215**2


@pytest.mark.parametrize("cut", ["hole", "slit"])
def test_holes_and_slits_are_not_bridged(cut):
    mesh = sheet(**{cut: True})
    dense = maps_of(mesh).dense_mesh
    corners = dense.vertices[dense.faces]
    longest = (corners - corners.roll(1, 1)).norm(dim=2).max()
    assert longest < 0.06  # a texel is 0.010 × 0.007, on the ramp beside the slit 0.03; the slit is 0.3 deep
    assert area_m2(dense) == pytest.approx(area_m2(mesh), rel=0.03)
    if cut == "hole":
        middle = corners.mean(1)
        gap = mesh.vertices[24 * 10 + 10, :2], mesh.vertices[24 * 13 + 13, :2]
        assert not ((middle[:, :2] > gap[0]) & (middle[:, :2] < gap[1])).all(1).any()


def test_triangles_without_area_are_left_out():
    mesh = sheet()
    vertices = mesh.vertices.clone()
    vertices[:, 0].clamp_(max=0.3)  # the sheet's right side collapses into a line
    flat = Mesh(vertices, mesh.faces, mesh.normals, mesh.uv)
    dense = maps_of(flat).dense_mesh
    a, b, c = dense.vertices[dense.faces].unbind(1)
    assert torch.linalg.cross(b - a, c - a).norm(dim=1).min() > 1e-9 and dense.uv[:, 0].max() < 0.65


def detailed(depth=0.03, mesh=None) -> Reconstruction:
    mesh = mesh or sheet(bend=0.6)
    rgb = np.random.default_rng(2).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    texture = UVTexture(rgb, np.zeros((64, 64), np.uint8))
    maps = maps_of(mesh, waves(depth)[0])
    face = Face(Box(1, 2, 30, 40), torch.zeros(5, 2), 0.9)
    return Reconstruction("fake", "a", 0, face, texture, Camera(torch.eye(4)), mesh, detail=maps)


@pytest.mark.parametrize("depth, range_mm", [(0.03, 20), (0.15, 40)])
def test_displacement_png_reads_back(tmp_path, depth, range_mm):
    original = detailed(depth)
    (path,) = export.write(original, tmp_path, "displacement")
    assert path.name == f"a.displacement_{range_mm}mm.png"
    picture = Image.open(path)
    assert picture.mode == "I;16" and str(range_mm) in picture.text["Comment"]
    read_mm = (np.asarray(picture).astype(float) - 32768) / 65535 * range_mm
    assert np.abs(read_mm - original.detail.displacement_map * 100).max() <= range_mm / 65535  # one level


def test_every_detail_format(tmp_path):
    original = detailed()
    normal, _, dense, lit = export.write(original, tmp_path, DETAIL_FORMATS)
    assert [path.name for path in (normal, dense, lit)] == ["a.normal.png", "a.dense.glb", "a.lit.glb"]
    assert np.array_equal(np.asarray(Image.open(normal)), original.detail.normal_map)
    read = trimesh.load(dense, force="mesh", process=False)
    assert read.area == pytest.approx(area_m2(original.detail.dense_mesh), rel=1e-4)
    assert (read.face_normals[:, 2] > 0).all() and len(read.vertices) == len(original.detail.dense_mesh.vertices)
    document, _ = parse_glb(dense.read_bytes())
    assert "normalTexture" not in document["materials"][0] and not document.get("extensionsUsed")


def test_the_lit_glb_carries_normal_map_and_tangents():
    original = detailed()
    document, blob = parse_glb(export.lit_glb_bytes(original))
    material = document["materials"][0]
    assert "extensions" not in material or material["extensions"] == {}
    assert not document.get("extensionsUsed")
    image = document["images"][document["textures"][material["normalTexture"]["index"]]["source"]]
    view = document["bufferViews"][image["bufferView"]]
    stored = Image.open(io.BytesIO(blob[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]))
    assert np.array_equal(np.asarray(stored), original.detail.normal_map)
    accessor = document["accessors"][document["meshes"][0]["primitives"][0]["attributes"]["TANGENT"]]
    view = document["bufferViews"][accessor["bufferView"]]
    tangents = np.frombuffer(blob, np.float32, accessor["count"] * 4, view["byteOffset"]).reshape(-1, 4)
    np.testing.assert_allclose(tangents, vertex_tangents(original.mesh).numpy(), atol=1e-5)


def test_detail_does_not_change_the_unlit_glb():
    plain = detailed()
    assert export.glb_bytes(plain) == export.glb_bytes(Reconstruction(**{**vars(plain), "detail": None}))


@pytest.mark.parametrize("writer", [export.lit_glb_bytes, export.dense_glb_bytes])
@pytest.mark.parametrize("spoiled", [False, True])
def test_the_khronos_validator_finds_nothing(tmp_path, writer, spoiled):
    mesh = sheet(bend=0.6)
    if spoiled:
        normals = mesh.normals.clone()
        normals[5], normals[6] = 0, float("nan")
        mesh = Mesh(mesh.vertices, mesh.faces, normals, mesh.uv)
    original = detailed()
    assert khronos_messages(tmp_path, writer(Reconstruction(**{**vars(original), "mesh": mesh}))) == []


@pytest.mark.parametrize("name", DETAIL_FORMATS)
def test_without_detail_its_formats_are_refused(tmp_path, name):
    plain = Reconstruction(**{**vars(detailed()), "detail": None})
    with pytest.raises(OptionInvalid, match='want="detail" and the HRN model'):
        export.write(plain, tmp_path / "new", ("png", name))
    assert not (tmp_path / "new").exists() and export.want_for(["png", name]) is Want.DETAIL


@pytest.mark.parametrize("field, value", [("normal_map", np.zeros((4, 5, 3), np.uint8)), ("displacement_map", None)])
def test_maps_are_checked_when_made(field, value):
    values = vars(maps_of(sheet())) | {field: np.zeros((256, 256)) if value is None else value}
    with pytest.raises(ValueError, match=field):
        DetailMaps(**values)


def test_made_only_when_wanted(prepared_pack, monkeypatch):
    made = []
    keep = hrn_model.detail_maps
    monkeypatch.setattr(hrn_model, "detail_maps", lambda *inputs: made.append("detail") or keep(*inputs))
    monkeypatch.setattr(pipeline, "turntable", lambda *inputs, stop: made.append("turntable") or ())
    reconstructor = hrn_opt.load(str(prepared_pack), device="cpu", precision="fp32")
    for want, expected in (
        ("texture", []),
        ("mesh", []),
        ("detail", ["detail"]),
        ("turntable", ["detail", "turntable"]),
    ):
        made.clear()
        result = reconstructor.reconstruct(PHOTO, faces=faces(1), want=want, texture_size=256, cheek_widening=0.0)
        assert made == expected and (result.detail is not None) == bool(expected)
        assert ("texel_mesh" in vars(reconstructor._model)) == (want not in ("texture", "mesh"))
    maps = result.detail
    assert np.array_equal(maps.displacement_map[64:192, 64:192], result.displacement[0, 64:192, 64:192].numpy())
    assert (maps.normal_map != NEUTRAL_RGB).any() and len(maps.dense_mesh.faces) > 100_000
    assert (result.mesh.normals[:, 2] > 0).float().mean() > 0.9 and (
        maps.dense_mesh.normals[:, 2] > 0
    ).float().mean() > 0.9
