"""The values that cross rooms refuse what they must not carry."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from hrn_opt.errors import InputError, OptionInvalid, PhotoArrayInvalid
from hrn_opt.types import (
    Box,
    Camera,
    Face,
    Mesh,
    Photo,
    Reconstruction,
    Stage,
    StageTiming,
    UVTexture,
    Want,
)


def mesh_parts(**changed):
    parts = {
        "vertices": torch.zeros(4, 3),
        "faces": torch.tensor([[0, 1, 2], [0, 2, 3]]),
        "normals": torch.ones(4, 3),
        "uv": torch.zeros(4, 2),
    }
    return parts | changed


@pytest.mark.parametrize("level, value", list(enumerate(["texture", "mesh", "detail", "turntable"])))
def test_want_is_parsed_and_ordered(level, value):
    assert Want.parse(value).level == level and Want.parse(Want(value)) is Want(value)


@pytest.mark.parametrize("value", ["x", "", "TEXTURE", None, 1])
def test_unknown_want_names_the_choices(value):
    with pytest.raises(OptionInvalid, match="'texture', 'mesh', 'detail', 'turntable'"):
        Want.parse(value)


@pytest.mark.parametrize(
    "rgb",
    [
        np.zeros((4, 6), np.uint8),
        np.zeros((4, 6, 4), np.uint8),
        np.zeros((4, 6, 3), np.float32),
        np.zeros((1, 4, 6, 3), np.uint8),
    ],
)
def test_photo_takes_rgb_bytes_only(rgb):
    with pytest.raises(PhotoArrayInvalid, match="uint8") as caught:
        Photo(rgb)
    assert isinstance(caught.value, InputError)


def test_photo_size_is_height_then_width():
    assert Photo(np.zeros((4, 6, 3), np.uint8)).size_hw == (4, 6)


def test_box_measures():
    box = Box(left=-2.0, top=1.0, right=4.0, bottom=4.5)
    assert (box.width, box.height, box.area) == (6.0, 3.5, 21.0)
    assert Box(0, 0, -3, -2).area == 0  # turned inside out, not positive by accident


@pytest.mark.parametrize("shape", [(5,), (5, 1), (5, 4), (1, 5, 2)])
def test_face_points_are_pairs_or_triples(shape):
    with pytest.raises(ValueError, match="points"):
        Face(Box(0, 0, 1, 1), torch.zeros(shape), 1.0)


@pytest.mark.parametrize("columns", [2, 3])
def test_face_takes_pairs_and_triples(columns):
    assert Face(Box(0, 0, 1, 1), torch.zeros(5, columns), 1.0).points.shape == (5, columns)


@pytest.mark.parametrize(
    "name, value",
    [
        ("vertices", torch.zeros(4, 2)),
        ("normals", torch.zeros(3, 3)),
        ("uv", torch.zeros(4, 3)),
        ("faces", torch.zeros(2, 3)),
        ("faces", torch.zeros((2, 4), dtype=torch.int64)),
        ("faces", torch.zeros((2, 3), dtype=torch.int32)),
        ("faces", torch.zeros(6, dtype=torch.int64)),
    ],
)
def test_mesh_checks_each_part(name, value):
    Mesh(**mesh_parts())
    with pytest.raises(ValueError, match=r"Mesh\." + ("normals" if name == "vertices" else name) + r"|Mesh\.vertices"):
        Mesh(**mesh_parts(**{name: value}))


@pytest.mark.parametrize(
    "rgb, visibility",
    [
        (np.zeros((4, 6, 3), np.uint8), np.zeros((4, 6), np.uint8)),
        (np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), np.uint8)),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((5, 5), np.uint8)),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), bool)),
    ],
)
def test_texture_is_square_bytes(rgb, visibility):
    with pytest.raises(ValueError, match="UVTexture"):
        UVTexture(rgb, visibility)


def test_camera_divides_by_w():
    matrix = torch.tensor([[2.0, 0, 0, 10], [0, -3, 0, 20], [0, 0, -1, 5], [0, 0, 0.5, 1]])
    points = torch.tensor([[1.0, 2.0, 2.0], [0.0, 0.0, 0.0]])
    expected = torch.tensor([[12 / 2, 14 / 2, 3 / 2], [10.0, 20.0, 5.0]])  # w is 2, then 1
    assert_close(Camera(matrix).project(points), expected)


def test_camera_moves_along_its_last_column():
    matrix = torch.eye(4)
    matrix[:3, 3] = torch.tensor([7.0, -1.0, 2.5])
    points = torch.tensor([[1.0, 2.0, 3.0]])
    assert_close(Camera(matrix).project(points), torch.tensor([[8.0, 1.0, 5.5]]))


def test_camera_turns_with_rows_as_axes():
    matrix = torch.eye(4)
    matrix[:2, :2] = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    assert_close(Camera(matrix).project(torch.tensor([[1.0, 2.0, 3.0]])), torch.tensor([[2.0, -1.0, 3.0]]))


def test_camera_refuses_other_shapes():
    with pytest.raises(ValueError, match="4, 4"):
        Camera(torch.eye(3))


def test_reconstruction_adds_up_its_stages():
    timings = (StageTiming(Stage.FIND, 0.25), StageTiming(Stage.TEXTURE, 0.5))
    texture = UVTexture(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8))
    face = Face(Box(0, 0, 1, 1), torch.zeros(5, 2), 1.0)
    made = Reconstruction("m", "p", 0, face, texture, Camera(torch.eye(4)), timings=timings)
    assert made.seconds == 0.75 and made.mesh is None
