"""HRN's mesh as it goes out: its normals, and the camera that lays it over the photo."""

import math

import numpy as np
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from hrn_opt.hrn.align.face_crop import Placement
from hrn_opt.hrn.find.faces import WorkingPhoto
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
