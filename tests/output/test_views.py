"""The pictures for people: the mesh lies on the face, boxes lie round faces, and nothing else of the photo changes."""

import numpy as np
import pytest
import torch

from hrn_opt.output.views import displacement_view, overlay
from hrn_opt.photo import open_photo
from hrn_opt.types import Box, Camera, Face, Mesh, Photo, Reconstruction, UVTexture


def face_at(left, top, right, bottom):
    return Face(Box(left, top, right, bottom), torch.zeros(5, 2), 1.0)


def square(camera, normal=(0.0, 0.0, 1.0), size_px=40):
    corners = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]) * size_px
    mesh = Mesh(corners, torch.tensor([[0, 1, 2], [0, 2, 3]]), torch.tensor([normal] * 4), corners[:, :2] / size_px)
    texture = UVTexture(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8))
    return Reconstruction("test", "x", 0, face_at(0, 0, 9, 9), texture, Camera(camera), mesh)


def at(left, top):
    camera = torch.eye(4)
    camera[:2, 3] = torch.tensor([float(left), float(top)])
    return camera


GREY = Photo(np.full((120, 90, 3), 60, np.uint8))


def test_the_overlay_covers_the_mesh_and_nothing_else():
    picture = overlay(GREY, square(at(20, 30)))
    changed = (picture != 60).any(2)
    assert changed[30:70, 20:60].all() and changed.sum() == 40 * 40
    assert GREY.rgb.max() == 60  # the photo itself is as it was


def test_the_overlay_hides_most_of_the_photo_and_not_all():
    black, white = (overlay(Photo(np.full((120, 90, 3), level, np.uint8)), square(at(20, 30))) for level in (0, 255))
    through = (white[50, 40].astype(int) - black[50, 40]) / 255
    assert (through > 0.2).all() and (through < 0.35).all()


def test_a_surface_seen_edge_on_is_darker_and_light_comes_from_the_viewer():
    facing = overlay(GREY, square(at(20, 30)))[50, 40]
    slanted = overlay(GREY, square(at(20, 30), normal=(0.8, 0.0, 0.6)))[50, 40]
    assert (facing > slanted).all() and (slanted > 60).all()


def test_a_perspective_camera_has_its_viewer_in_one_place():
    camera = torch.tensor([[100.0, 0, -45, 450], [0, 100, -60, 600], [0, 0, -1, 9], [0, 0, -1, 10]])  # at z = 10
    sides = square(camera, normal=(1.0, 0.0, 0.0), size_px=1)  # seen edge-on by parallel rays, not quite by these
    straight = square(camera, size_px=1)
    assert overlay(GREY, straight)[62, 47].mean() > overlay(GREY, sides)[62, 47].mean()
    assert np.abs(overlay(GREY, straight)[62, 47].astype(int) - overlay(GREY, square(at(20, 30)))[50, 40]).max() <= 1


def test_a_mesh_past_the_border_is_cut_off():
    changed = (overlay(GREY, square(at(-25, 100))) != 60).any(2)
    assert changed[100:, :15].all() and changed.sum() == 20 * 15
    assert (overlay(GREY, square(at(300, 400))) == 60).all()


def test_a_large_photo_is_shown_smaller():
    large = Photo(np.full((1200, 900, 3), 60, np.uint8))
    changed = (overlay(large, square(at(200, 300), size_px=400), longest_px=120) != 60).any(2)
    assert changed.shape == (120, 90) and changed[30:70, 20:60].all() and changed.sum() == 1600


def test_the_overlay_lies_on_the_face(model, example_photo):
    photo = open_photo(example_photo)
    result = model.reconstruct(photo, texture_size=512)
    rows, columns = np.nonzero((overlay(photo, result) != photo.rgb).any(2))
    box = result.face.box
    assert np.abs(np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) - [
        box.left, box.top, box.right, box.bottom
    ]).max() < 0.06 * box.height  # fmt: skip


def test_without_a_mesh_there_is_no_overlay():
    from dataclasses import replace

    with pytest.raises(ValueError, match="needs a mesh"):
        overlay(GREY, replace(square(at(0, 0)), mesh=None))


def test_displacement_is_stretched_to_what_the_eye_can_see():
    assert displacement_view(np.float32([[0.02, -0.01], [0, 0.005]])).tolist() == [[255, 64], [128, 160]]
    assert (displacement_view(np.zeros((2, 2), np.float32)) == 128).all()
