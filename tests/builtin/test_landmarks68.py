"""The 68 landmarks from the mesh's points: each where its name says."""

import pytest
import torch

import hrn_opt
from hrn_opt.builtin.face_mesh import load_face_mesh
from hrn_opt.builtin.landmarks68 import LANDMARKS_68, landmark_finder, landmarks_68


def test_left_and_right_mirror_each_other():
    points = load_face_mesh().canonical[list(LANDMARKS_68)]
    pairs = [(0, 16), (3, 13), (17, 26), (31, 35), (36, 45), (39, 42), (48, 54), (60, 64), (61, 63), (67, 65), (41, 46)]
    for right, left in pairs:
        torch.testing.assert_close(points[right] * torch.tensor([-1.0, 1, 1]), points[left], atol=0.01, rtol=0)
    assert len(set(LANDMARKS_68)) == 68


def test_a_photos_landmarks_are_in_photo_pixels(example_photo):
    (face,) = landmark_finder()(hrn_opt.open_photo(example_photo))
    assert tuple(face.points.shape) == (68, 2) and face.points.dtype == torch.float64
    eyes, mouth = face.points[36:48].mean(0), face.points[48:68].mean(0)
    box = face.box
    assert box.left < eyes[0] < box.right and box.top < eyes[1] < mouth[1] < box.bottom
    assert abs(float(face.points[30, 0]) - float(eyes[0])) < 0.15 * box.width  # the nose tip below the eyes' middle


@pytest.mark.parametrize("shape", [(478, 3), (2, 478, 3)])
def test_only_one_face_at_a_time(shape):
    points = torch.zeros(shape)
    if len(shape) == 2:
        assert tuple(landmarks_68(points).shape) == (68, 2)
    else:
        with pytest.raises(IndexError):
            landmarks_68(points)
