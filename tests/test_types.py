"""The values that cross rooms refuse what they must not carry."""

import re

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from hrn_opt.checks import check
from hrn_opt.errors import InputError, OptionInvalid, PhotoArrayInvalid
from hrn_opt.types import (
    Box,
    Camera,
    DetailMaps,
    Face,
    Hints,
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


@pytest.mark.parametrize(
    "values, shape, dtypes",
    [
        (torch.zeros(4, 3), ("N", 3), ("float32",)),
        (torch.zeros(4, 4, 3, dtype=torch.uint8), ("S", "S", 3), ("uint8",)),
        (np.zeros((4, 4), np.float32), ("S", "S"), ("uint8", "float32")),
        (np.zeros((), np.int64), (), ("int64",)),
        (torch.zeros(0, 2), ("N", 2), ("float32",)),
    ],
)
def test_check_takes_what_is_promised(values, shape, dtypes):
    check("it", values, shape, *dtypes)


@pytest.mark.parametrize(
    "values, shape, dtype, message",
    [
        (torch.zeros(4, 2), ("N", 3), "float32", "it must be (N, 3) float32, got (4, 2) float32"),
        (torch.zeros(4, 3).double(), ("N", 3), "float32", "it must be (N, 3) float32, got (4, 3) float64"),
        (np.zeros((4, 5)), ("S", "S"), "float64", "it must be (S, S) float64, got (4, 5) float64"),
        (np.zeros((5, 4), np.uint8), ("S", "S"), "uint8", "it must be (S, S) uint8, got (5, 4) uint8"),
        (np.zeros(4), ("N", 3), "float64", "it must be (N, 3) float64, got (4,) float64"),
        (np.zeros((4, 3)), ("N",), "float64", "it must be (N,) float64, got (4, 3) float64"),
        (np.zeros((3, 4)), (4, 3), "float64", "it must be (4, 3) float64, got (3, 4) float64"),
    ],
)
def test_check_says_what_is_wanted_and_what_there_is(values, shape, dtype, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check("it", values, shape, dtype)


def test_check_raises_the_error_it_is_given():
    with pytest.raises(OptionInvalid):
        check("it", torch.zeros(2), (3,), "float32", error=OptionInvalid)


@pytest.mark.parametrize("name", ["vertices", "normals", "uv"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_mesh_is_float32(name, dtype):
    with pytest.raises(ValueError, match=rf"Mesh\.{name} .* float32, got"):
        Mesh(**mesh_parts(**{name: mesh_parts()[name].to(dtype)}))


def test_camera_is_float32():
    with pytest.raises(ValueError, match=r"Camera\.matrix .* got \(4, 4\) float64"):
        Camera(torch.eye(4, dtype=torch.float64))


def test_face_points_keep_a_callers_precision_but_are_no_whole_numbers():
    assert Face(Box(0, 0, 1, 1), torch.zeros(68, 2).double(), 1.0).points.dtype == torch.float64
    with pytest.raises(ValueError, match=r"Face\.points .* float32 or float64, got \(68, 2\) int64"):
        Face(Box(0, 0, 1, 1), torch.zeros((68, 2), dtype=torch.int64), 1.0)


@pytest.mark.parametrize(
    "normal_map, displacement_map, field",
    [
        (np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), np.float32), "normal_map"),
        (np.zeros((4, 6, 3), np.uint8), np.zeros((4, 4), np.float32), "normal_map"),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4)), "displacement_map"),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((5, 5), np.float32), "displacement_map"),
    ],
)
def test_detail_maps_are_checked(normal_map, displacement_map, field):
    with pytest.raises(ValueError, match=rf"DetailMaps\.{field} must be"):
        DetailMaps(normal_map, displacement_map, Mesh(**mesh_parts()))


@pytest.mark.parametrize(
    "hints",
    [
        {"landmarks": torch.zeros(68, 3)},
        {"landmarks": torch.zeros((68, 2), dtype=torch.int64)},
        {"skin_mask": torch.zeros(224, 224).double()},
        {"skin_mask": torch.zeros(224, 223)},
        {"landmarks": torch.full((68, 2), torch.nan)},
    ],
)
def test_hints_are_checked(hints):
    (name,) = hints
    with pytest.raises(OptionInvalid, match=name):
        Hints(**hints)


def test_hints_from_arrays_keep_the_landmarks_precision():
    hints = Hints.of(np.full((68, 2), 1 / 3), np.full((224, 224), 255, np.uint8))
    assert hints.landmarks.dtype == torch.float64 and hints.landmarks[0, 0] == 1 / 3
    assert hints.skin_mask.dtype == torch.float32 and hints.skin_mask.max() == 1


@pytest.mark.parametrize(
    "field, values",
    [
        ("coefficients", torch.zeros(1, 257)),
        ("texture_256", torch.zeros(256, 256, 3).double()),
        ("deformation", torch.zeros(3, 64, 63)),
        ("displacement", torch.zeros(1, 256, 256).half()),
    ],
)
def test_published_values_are_checked(field, values):
    texture = UVTexture(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8))
    face = Face(Box(0, 0, 1, 1), torch.zeros(5, 2), 1.0)
    with pytest.raises(ValueError, match=rf"Reconstruction\.{field} must be"):
        Reconstruction("m", "p", 0, face, texture, Camera(torch.eye(4)), **{field: values})
