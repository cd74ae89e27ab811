"""The morphable model against closed forms and plain loops."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from hrn_opt.hrn.shape.morphable import Coefficients, MorphableModel, Pose, pose_of, shade, to_camera


def model_of(**replaced) -> MorphableModel:
    fields = {name: torch.zeros(0) for name in MorphableModel.__dataclass_fields__}
    return MorphableModel(**(fields | replaced))


def coefficients_of(batch: int = 1, **parts) -> Coefficients:
    zero = Coefficients.split(torch.zeros(batch, 257))
    return Coefficients(**({name: getattr(zero, name) for name in Coefficients.__dataclass_fields__} | parts))


def test_the_257_numbers_are_split_in_their_order():
    parts = Coefficients.split(torch.arange(2 * 257.0).view(2, 257))
    starts = {"identity": 0, "expression": 80, "albedo": 144, "angles": 224, "light": 227, "translation": 254}
    assert {name: getattr(parts, name)[0, 0].item() for name in starts} == starts
    assert parts.translation[1].tolist() == [511.0, 512.0, 513.0]


def test_shape_is_the_mean_plus_both_bases():
    random = np.random.default_rng(0)
    mean, basis = random.normal(size=15), random.normal(size=(144, 15))
    identity, expression = random.normal(size=(2, 80)), random.normal(size=(2, 64))
    model = model_of(mean_shape=torch.tensor(mean).float(), shape_basis=torch.tensor(basis).float())
    weights = {"identity": torch.tensor(identity).float(), "expression": torch.tensor(expression).float()}
    expected = mean + identity @ basis[:80] + expression @ basis[80:]
    shape = model.shape(coefficients_of(2, **weights))
    assert_close(shape, torch.tensor(expected).float().view(2, 5, 3), atol=2e-5, rtol=0)  # sums of 144 float32


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-6), (torch.bfloat16, 0.01)])
def test_albedo_map_is_in_texture_order(dtype, atol):
    mean, basis = torch.full((256, 256, 3), 100.0), torch.zeros(80, 256, 256, 3)
    basis[3, 7, 200, 1], basis[79, 255, 0, 2] = 10, -20
    albedo = torch.zeros(2, 80)
    albedo[0, 3], albedo[1, 79] = 2, 1.5
    model = model_of(albedo_mean=mean.flatten(), albedo_basis=basis.flatten(1).to(dtype))
    maps = model.albedo_map(coefficients_of(2, albedo=albedo))
    expected = torch.full((2, 3, 256, 256), 100 / 255)
    expected[0, 1, 7, 200], expected[1, 2, 255, 0] = 120 / 255, 70 / 255
    assert maps.dtype == torch.float32
    assert_close(maps, expected, atol=atol, rtol=0)


def test_rotation_turns_about_x_then_y_then_z():
    angles = torch.tensor([[0.3, -0.5, 0.7], [1.1, 0.2, -2.0]])
    generators = torch.zeros(3, 3, 3)
    for axis in range(3):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        generators[axis, first, second], generators[axis, second, first] = -1, 1
    x, y, z = (torch.matrix_exp(angles[:, axis, None, None] * generators[axis]) for axis in range(3))
    points = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1))
    expected = torch.einsum("bij,bnj->bni", z @ y @ x, points) + 2
    pose = pose_of(coefficients_of(2, angles=angles, translation=torch.full((2, 3), 2.0)))
    assert_close(pose.apply(points), expected, atol=2e-6, rtol=0)


def test_a_quarter_turn_about_x_lifts_the_chin_forward():
    pose = pose_of(coefficients_of(angles=torch.tensor([[math.pi / 2, 0, 0]])))
    assert_close(pose.apply(torch.tensor([[[0.0, 1.0, 0.0]]])), torch.tensor([[[0.0, 0.0, 1.0]]]), atol=1e-6, rtol=0)


def test_translation_is_each_face_s_own():
    pose = Pose(torch.eye(3).repeat(2, 1, 1), torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))
    assert pose.apply(torch.zeros(2, 2, 3))[:, 1].tolist() == [[1, 2, 3], [4, 5, 6]]


def test_camera_frame_measures_from_ten_decimetres():
    points = torch.tensor([[[1.0, 2.0, 3.0]]])
    assert to_camera(points).tolist() == [[[1, 2, 7]]]
    assert points.tolist() == [[[1, 2, 3]]]  # unlike upstream, the argument stays


def fan() -> tuple[torch.Tensor, torch.Tensor]:
    """Twelve vertices of uneven height, the last one in ten triangles."""
    turn = torch.linspace(0, 2 * math.pi, 12)[:-1]
    height = torch.randn(11, generator=torch.Generator().manual_seed(2)) * 0.4
    vertices = torch.cat([torch.stack([turn.cos(), turn.sin(), height], 1), torch.tensor([[0.1, -0.2, 0.5]])])
    return vertices, torch.tensor([[11, k, k + 1] for k in range(10)])


def test_normals_count_eight_triangles_at_most():
    """PARITY: the centre of ten triangles takes the first eight; every triangle counts alike, however large."""
    vertices, triangles = fan()
    around = torch.full((12, 8), len(triangles))
    for point in range(12):
        mine = [number for number, triangle in enumerate(triangles.tolist()) if point in triangle][:8]
        around[point, : len(mine)] = torch.tensor(mine)
    batch = torch.stack([vertices, vertices * torch.tensor([1.0, 3.0, -0.5])])
    normals = model_of(triangles=triangles, point_faces=around).normals(batch)
    for face in range(2):
        for point in range(12):
            total = np.zeros(3)
            for number in around[point].tolist():
                if number < len(triangles):
                    a, b, c = batch[face, triangles[number]].double().numpy()
                    normal = np.cross(b - a, c - a)
                    total += normal / np.linalg.norm(normal)
            expected = torch.tensor(total / np.linalg.norm(total)).float()
            assert_close(normals[face, point], expected, atol=2e-6, rtol=0)
    everything = sum(
        torch.nn.functional.normalize(torch.linalg.cross(vertices[b] - vertices[a], vertices[c] - vertices[a]), dim=0)
        for a, b, c in triangles.tolist()
    )
    assert (normals[0, 11] - torch.nn.functional.normalize(everything, dim=0)).abs().max() > 0.01


def test_shading_against_a_plain_loop():
    """The numbers that the published formula comes to, band by band: 0.886227 = √π / 2; 1.772454 = √π; 2.427032."""
    random = torch.Generator().manual_seed(3)
    normals = torch.nn.functional.normalize(torch.randn(2, 3, 7, generator=random), dim=1)
    light = torch.randn(2, 27, generator=random)
    before = light.clone()
    found = shade(normals, light)
    assert found.shape == (2, 3, 7) and torch.equal(light, before)
    for face in range(2):
        for place in range(7):
            x, y, z = normals[face, :, place].tolist()
            basis = [0.886227, -1.772454 * y, 1.772454 * z, -1.772454 * x, 2.427032 * x * y, -2.427032 * y * z]
            basis += [0.700624 * (3 * z * z - 1), -2.427032 * x * z, 1.213516 * (x * x - y * y)]
            for colour in range(3):
                weights = light[face, 9 * colour : 9 * colour + 9].tolist()
                weights[0] += 0.8
                expected = sum(weight * value for weight, value in zip(weights, basis, strict=True))
                assert found[face, colour, place].item() == pytest.approx(expected, abs=1e-5)  # six printed digits
