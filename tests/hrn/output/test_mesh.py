"""HRN's mesh as it goes out: its normals, and the camera that lays it over the photo."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from hrn_opt.hrn.align.face_crop import Placement
from hrn_opt.hrn.find.faces import WorkingPhoto
from hrn_opt.hrn.frames import CAMERA_DISTANCE_DM, CENTRE_PX, FOCAL_PX
from hrn_opt.hrn.output.mesh import output_normals, photo_camera


def test_normals_count_every_triangle_round_a_vertex():
    """PARITY: also the ninth and tenth, which the normals for shading leave out."""
    turn = torch.linspace(0, 2 * math.pi, 12)[:-1]
    height = torch.randn(11, generator=torch.Generator().manual_seed(2)) * 0.4
    vertices = torch.cat([torch.stack([turn.cos(), turn.sin(), height], 1), torch.tensor([[0.1, -0.2, 0.5]])])
    triangles = torch.tensor([[11, k, k + 1] for k in range(10)])
    a, b, c = vertices[triangles].double().unbind(1)
    of_face = F.normalize(torch.linalg.cross(b - a, c - a), dim=1)
    found = output_normals(vertices, triangles)[11]
    assert_close(found, F.normalize(of_face.sum(0), dim=0).float(), atol=2e-6, rtol=0)  # float32's rounding
    assert (found - F.normalize(of_face[:8].sum(0), dim=0)).abs().max() > 0.01


def test_normals_without_area_look_forward():
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [5, 5, 5]])
    assert_close(output_normals(vertices, torch.tensor([[0, 1, 2]])), torch.tensor([[0.0, 0, 1]]).expand(4, 3))


def test_camera_keeps_the_renderers_pixel_centres():
    """PARITY: crop pixels are taken as the renderer has them, centres at +0.5, with no half pixel added."""
    placement = Placement(size_wh=(448, 672), left=100, top=200, crop_px=224)
    working = WorkingPhoto(np.zeros((300, 200, 3), np.uint8), (300, 200))
    vertices = torch.tensor([[0.0, 0.0, 0.0], [0.5, -0.25, 1.0]])
    across_px, down_px = 1015 * 0.5 / 9, 1015 * 0.25 / 9  # 1015 px focal length; 10 dm from the camera, less z
    crop_xy = torch.tensor([[112.0, 112.0], [112 + across_px, 112 + down_px]])
    found = photo_camera(placement, working).project(vertices)
    assert_close(found[:, :2], placement.to_photo(crop_xy, (300, 200)), atol=1e-4, rtol=0)  # float32 of 200 px
    assert found[1, 2] < found[0, 2]  # what is nearer has the smaller depth


@pytest.mark.parametrize("vertex", [(0.0, 0.0, 0.0), (0.7, -0.4, 1.2), (-0.3, 0.9, -0.5)])
def test_the_camera_is_a_pinhole_before_the_crop_s_place(vertex):
    scale, low = torch.tensor([2.0, 3.0]), torch.tensor([11.0, 25.0])
    placement = SimpleNamespace(to_photo=lambda crop_xy, size_hw: crop_xy * scale + low)
    camera = photo_camera(placement, SimpleNamespace(photo_size_hw=(700, 900)))
    x, y, z = vertex
    distance = CAMERA_DISTANCE_DM - z
    crop_xy = torch.tensor([CENTRE_PX + FOCAL_PX * x / distance, CENTRE_PX - FOCAL_PX * y / distance])
    *seen, w = camera.matrix @ torch.tensor([*vertex, 1.0])
    expected = torch.tensor([*(crop_xy * scale + low), 1 - 1 / distance])
    torch.testing.assert_close(torch.stack(seen) / w, expected, atol=1e-4, rtol=1e-6)  # float32
    assert float(w) == pytest.approx(distance)


def test_normals_count_each_triangle_alike_whatever_its_area():
    """A floor of one large triangle and a wall of a small one meet in an edge; a third has no area."""
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 9, 0], [0, 0, 0.1], [5, 5, 5]])
    triangles = torch.tensor([[0, 1, 2], [0, 3, 1]])
    half = 0.5**0.5
    expected = torch.tensor([[0, half, half], [0, half, half], [0, 0, 1], [0, 1, 0], [0, 0, 1]])
    torch.testing.assert_close(output_normals(vertices, triangles), expected)
    flat = torch.tensor([[0, 1, 2], [4, 4, 4]])
    assert output_normals(vertices, flat)[4].tolist() == [0, 0, 1]
