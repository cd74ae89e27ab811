"""The fit of the canonical face, the mesh that does not know its pose, and the camera that does."""

import math

import pytest
import torch
from torch.testing import assert_close

from hrn_opt.builtin.points import MESH_COUNT, POINT_COUNT
from hrn_opt.builtin.shape import fit_shape, fit_similarity, with_true_turn

NOSE_TIP = 4
EARS = (234, 454)  # outline points next to the ears: the picture's left and right


def turn(x_rad=0.0, y_rad=0.0, z_rad=0.0):
    """Rotation about x, then y, then z, axes x right, y up, z to the viewer."""
    cx, sx, cy, sy, cz, sz = (f(a) for a in (x_rad, y_rad, z_rad) for f in (math.cos, math.sin))
    about_x = torch.tensor([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = torch.tensor([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = torch.tensor([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def on_photo(face_mesh, rotation, scale=80.0, offset=(300.0, -200.0, 5.0), bend=0.0):
    """(478, 3) photo points of the canonical face posed; bend makes it another person's, the same at every pose."""
    generator = torch.Generator().manual_seed(0)
    model = face_mesh.canonical + bend * torch.randn((MESH_COUNT, 3), generator=generator)
    upright = scale * model @ rotation.T + torch.tensor(offset)
    points = upright * torch.tensor([1.0, -1, -1])
    return torch.cat([points, torch.zeros(POINT_COUNT - MESH_COUNT, 3)])


@pytest.mark.parametrize("seed", range(4))
def test_a_known_similarity_is_recovered(seed):
    generator = torch.Generator().manual_seed(seed)
    source = torch.randn((9, 3), generator=generator)
    angles = torch.rand(3, generator=generator) * 6
    rotation, scale, offset = turn(*angles.tolist()), 0.3 + seed, torch.tensor([4.0, -50.0, 7.0])
    fit = fit_similarity(source, scale * source @ rotation.T + offset)
    assert fit.scale == pytest.approx(scale, rel=1e-4)
    assert_close(fit.rotation, rotation, atol=1e-4, rtol=0)
    assert_close(fit.offset, offset, atol=1e-3, rtol=0)


def test_a_mirrored_target_still_gets_a_rotation():
    source = torch.randn((12, 3), generator=torch.Generator().manual_seed(1)) * torch.tensor([3.0, 2.0, 0.5])
    fit = fit_similarity(source, source * torch.tensor([1.0, 1, -1]))
    assert torch.det(fit.rotation) == pytest.approx(1, abs=1e-5)
    assert_close(fit.rotation @ fit.rotation.T, torch.eye(3), atol=1e-5, rtol=0)
    assert_close(fit.rotation.diagonal(), torch.ones(3), atol=0.1, rtol=0)  # the thin axis is the one given up
    assert 0.5 < fit.scale < 1


def test_noise_is_averaged_out():
    generator = torch.Generator().manual_seed(2)
    source = torch.randn((200, 3), generator=generator)
    rotation = turn(0.2, -0.4, 0.9)
    target = 5 * source @ rotation.T + 0.05 * torch.randn((200, 3), generator=generator)
    fit = fit_similarity(source, target)
    assert fit.scale == pytest.approx(5, rel=2e-3)
    assert_close(fit.rotation, rotation, atol=2e-3, rtol=0)


def test_the_canonical_face_comes_back_as_itself(face_mesh):
    shape = fit_shape(face_mesh, on_photo(face_mesh, turn(0.1, 0.3, -0.2)))
    expected = face_mesh.surface(face_mesh.canonical)[face_mesh.seams.vertex]
    assert_close(shape.mesh.vertices, expected, atol=1e-4, rtol=0)  # decimetres: a hundredth of a millimetre


@pytest.mark.parametrize("pose", [(0, 0, 0), (0, 0, 2.8), (0, 0, -1.3), (0.2, 0.5, 0.4)])
def test_mesh_does_not_know_roll_scale_or_place(face_mesh, pose):
    straight = fit_shape(face_mesh, on_photo(face_mesh, turn(), bend=0.02))
    posed = fit_shape(face_mesh, on_photo(face_mesh, turn(*pose), 31.0, (40.0, -90.0, -3.0), bend=0.02))
    assert_close(posed.mesh.vertices, straight.mesh.vertices, atol=1e-4, rtol=0)
    assert_close(posed.mesh.normals, straight.mesh.normals, atol=2e-3, rtol=0)


def test_camera_lays_the_mesh_back_over_the_points(face_mesh):
    points = on_photo(face_mesh, turn(0.1, -0.4, 0.7), bend=0.03)
    shape = fit_shape(face_mesh, points)
    # Subdivision is linear with rows that sum to 1, so the surface of the photo's points is the photo of the surface.
    expected = face_mesh.surface(points[:MESH_COUNT])[face_mesh.seams.vertex]
    assert_close(shape.camera.project(shape.mesh.vertices), expected, atol=5e-3, rtol=0)  # px of 300


def test_camera_keeps_depth_order(face_mesh):
    shape = fit_shape(face_mesh, on_photo(face_mesh, turn()))
    projected = shape.camera.project(shape.mesh.vertices)
    nose, ear = ((face_mesh.seams.vertex == point).nonzero()[0, 0] for point in (NOSE_TIP, EARS[0]))
    assert projected[nose, 2] < projected[ear, 2]  # smaller is nearer


@pytest.mark.parametrize("yaw_deg", [-50, -20, 0, 35])
def test_yaw_is_positive_to_the_photos_right(face_mesh, yaw_deg):
    points = on_photo(face_mesh, turn(0.0, math.radians(yaw_deg), 0.0))
    assert math.degrees(fit_shape(face_mesh, points).yaw_rad) == pytest.approx(yaw_deg, abs=0.05)
    on_its_side = on_photo(face_mesh, turn(0.0, math.radians(yaw_deg), 2.0))
    assert math.degrees(fit_shape(face_mesh, on_its_side).yaw_rad) == pytest.approx(yaw_deg, abs=0.05)
    nose_past_the_middle = points[NOSE_TIP, 0] - points[list(EARS), 0].mean()
    assert abs(nose_past_the_middle) < 1 if yaw_deg == 0 else nose_past_the_middle * yaw_deg > 0


def test_view_normals_look_at_the_viewer_where_the_face_does(face_mesh):
    shape = fit_shape(face_mesh, on_photo(face_mesh, turn(0.0, math.radians(40), 0.0)))
    assert_close(shape.view_normals.norm(dim=1), torch.ones(len(shape.view_normals)), atol=1e-5, rtol=0)
    a, b, c = shape.camera.project(shape.mesh.vertices)[shape.mesh.faces][..., :2].unbind(1)
    first, second = b - a, c - a
    twice_area = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]  # y down: negative faces the viewer
    facing = shape.view_normals[shape.mesh.faces].mean(1)[:, 2]
    clear = facing.abs() > 0.25
    assert clear.sum() > 10_000 and ((facing > 0) == (twice_area < 0))[clear].float().mean() > 0.995
    cheeks = [(shape.mesh.uv - torch.tensor([u, 0.45])).norm(dim=1).argmin() for u in (0.2, 0.8)]
    assert shape.view_normals[cheeks[0], 2] > shape.view_normals[cheeks[1], 2]  # looking right shows the picture's left


def test_irises_change_nothing(face_mesh):
    points = on_photo(face_mesh, turn(0.1, 0.2, 0.3))
    moved = points.clone()
    moved[MESH_COUNT:] += 99
    assert torch.equal(fit_shape(face_mesh, points).mesh.vertices, fit_shape(face_mesh, moved).mesh.vertices)


@pytest.mark.parametrize("yaw_deg", [-24, 15, 30])
@pytest.mark.parametrize("roll_rad", [0.0, 2.0])
def test_a_turn_that_the_depth_shows_too_small_is_set_right(face_mesh, yaw_deg, roll_rad):
    points = on_photo(face_mesh, turn(0.1, math.radians(yaw_deg), roll_rad), bend=0.02)
    corrected = with_true_turn(face_mesh, points)
    assert torch.equal(corrected[:, :2], points[:, :2])
    seen, true = (math.degrees(fit_shape(face_mesh, one).yaw_rad) for one in (points, corrected))
    assert 1.1 < true / seen < 1.25  # 1.16 on real faces


def test_a_face_from_the_front_or_in_profile_keeps_its_depth(face_mesh):
    for yaw_deg, most_px in ((0, 0.1), (50, 0.5)):
        points = on_photo(face_mesh, turn(0.1, math.radians(yaw_deg), 0.3))
        assert (with_true_turn(face_mesh, points) - points)[:MESH_COUNT].abs().max() < most_px
