"""The detector's decoding against plain loops, and what it finds: at every roll, small ones, several, no others."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from hrn_opt.builtin import detect
from hrn_opt.builtin.points import OUTER_EYE_CORNERS
from hrn_opt.types import Photo

FACE_CENTRE = (225.6, 123.7)  # of the example photo, pixels
FACE_WIDTH = 92.0
EYE_LINE_DEG = 3.3  # her head leans a little


def eye_direction_deg(face):
    left, right = face.points[OUTER_EYE_CORNERS[0]], face.points[OUTER_EYE_CORNERS[1]]
    return math.degrees(math.atan2(right[1] - left[1], right[0] - left[0]))


def degrees_apart(first, second):
    return abs((first - second + 180) % 360 - 180)


def face_centre(scale, centre_xy, roll_deg=0.0):
    """Where `placed` puts the middle of the face."""
    dx, dy = (FACE_CENTRE[0] - 256) * scale, (FACE_CENTRE[1] - 256) * scale
    cosine, sine = math.cos(math.radians(roll_deg)), math.sin(math.radians(roll_deg))
    return centre_xy[0] + dx * cosine - dy * sine, centre_xy[1] + dx * sine + dy * cosine


def assert_is_there(face, centre_xy, width):
    middle = (face.box.left + face.box.right) / 2, (face.box.top + face.box.bottom) / 2
    assert math.dist(middle, centre_xy) < 0.2 * width
    assert 0.75 < face.box.width / width < 1.35  # a box round a turned face is up to 1.25 times as wide


def test_decode_matches_plain_loops():
    generator = torch.Generator().manual_seed(0)
    regressors = torch.randn((896, 16), generator=generator) * 40
    logits = torch.randn(896, generator=generator) * 2 - 2
    logits[5], logits[6] = 300.0, -300.0
    scale, origin = (1.75, 2.5), (10.0, -4.0)
    window = detect._Window(torch.zeros(3, 256, 256), torch.tensor(scale), torch.tensor(origin))
    found = window.to_photo(detect.decode(regressors, logits))

    anchors = [(column, row, 16) for row in range(16) for column in range(16) for _ in range(2)]
    anchors += [(column, row, 8) for row in range(8) for column in range(8) for _ in range(6)]
    boxes, eyes, scores = [], [], []
    for (column, row, cells), raw, logit in zip(anchors, regressors.tolist(), logits.tolist(), strict=True):
        score = 1 / (1 + math.exp(-max(min(logit, 100.0), -100.0)))
        if score < 0.5:
            continue
        anchor = (column + 0.5) * 256 / cells, (row + 0.5) * 256 / cells
        low_high = [anchor[k] + raw[k] + side * raw[2 + k] / 2 for side in (-1, 1) for k in (0, 1)]
        boxes.append([value * scale[k % 2] + origin[k % 2] for k, value in enumerate(low_high)])
        points = [[(raw[4 + 2 * p + k] + anchor[k]) * scale[k] + origin[k] for k in (0, 1)] for p in (0, 1)]
        eyes.append(points)
        scores.append(score)
    assert 50 < len(scores) < 300
    assert_close(found.boxes, torch.tensor(boxes), atol=1e-3, rtol=1e-5)
    assert_close(found.eyes, torch.tensor(eyes), atol=1e-3, rtol=1e-5)
    assert_close(found.scores, torch.tensor(scores), atol=1e-5, rtol=0)


@pytest.mark.parametrize("quarter_turns", [1, 2, 3])
def test_points_turn_back_with_the_picture(quarter_turns):
    picture = np.zeros((5, 8))
    picture[1, 6] = 1
    row, column = np.argwhere(np.rot90(picture, quarter_turns))[0]
    assert detect._turn_back(torch.tensor([[column + 0.5, row + 0.5]]), quarter_turns, (5, 8)).tolist() == [[6.5, 1.5]]


def test_letterbox_is_black_below_and_right():
    image = detect._to_input(np.full((100, 256, 3), 255, np.uint8))
    assert (image[:, :100] == 1).all() and (image[:, 100:] == -1).all()
    image = detect._to_input(np.full((256, 30, 3), 0, np.uint8))
    assert image.shape == (3, 256, 256) and (image == -1).all()


@pytest.mark.parametrize("photo_hw", [(600, 900), (900, 600), (300, 1000), (200, 256), (448, 448)])
def test_tiles_cover_the_photo_and_lie_where_they_say(photo_hw):
    height, width = photo_hw
    y, x = np.mgrid[0:height, 0:width]
    rgb = np.stack([x * 250 // width, y * 250 // height, 0 * x], -1).astype(np.uint8)  # colour says position
    tiled = detect.Views.of(rgb).tiled_rgb
    reached = np.zeros(photo_hw, bool)
    for window in [detect._letterboxed(tiled, rgb.shape), *detect._tiles(tiled, rgb.shape)][-4:]:
        (left, top), (right, bottom) = window.origin_xy, window.origin_xy + 256 * window.scale_xy
        reached[round(float(top)) : round(float(bottom)), round(float(left)) : round(float(right))] = True
        px, py = torch.tensor([20.5, 150.5]) * window.scale_xy + window.origin_xy
        if px < width and py < height:
            seen = (window.image[:2, 150, 20] + 1) * 127.5
            # Two photo pixels' worth: whole levels, and an odd rest when the photo is averaged.
            assert_close(seen, torch.tensor([px * 250 / width, py * 250 / height]), atol=2.5, rtol=0)
    assert reached.all()


@pytest.mark.parametrize("roll_deg", range(0, 360, 30))
def test_one_face_at_every_roll(builtin, placed, roll_deg):
    (face,) = builtin.find(placed(0.8, (620, 700), (340, 300), roll_deg))
    assert_is_there(face, face_centre(0.8, (340, 300), roll_deg), 0.8 * FACE_WIDTH)
    assert degrees_apart(eye_direction_deg(face), EYE_LINE_DEG + roll_deg) < 6  # one pass; measured 1.5 at most
    assert face.score > 0.9


@pytest.mark.parametrize("quarter_turns", [1, 2, 3])
def test_a_photo_turned_by_a_quarter_shows_the_same_faces(builtin, photo, quarter_turns):
    # A shuttle's tail in the background once passed for a face of a photo on its side.
    (face,) = builtin.find(Photo(np.ascontiguousarray(np.rot90(photo.rgb, quarter_turns))))
    (upright,) = builtin.find(photo)
    back = detect._turn_back(face.points[:, :2], quarter_turns, photo.size_hw)
    assert (back - upright.points[:, :2]).norm(dim=1).mean() < 0.03 * FACE_WIDTH  # first pass: 1 to 4 % of the eyes


@pytest.mark.parametrize(
    "scale, canvas_hw", [(0.4, (640, 920)), (0.3, (700, 740)), (0.36, (900, 640)), (0.5, (1300, 1100))]
)
def test_small_faces(builtin, placed, scale, canvas_hw):
    centre = (canvas_hw[1] * 0.62, canvas_hw[0] * 0.57)
    photo = placed(scale, canvas_hw, centre)
    assert FACE_WIDTH * scale / max(canvas_hw) < 0.0405
    (face,) = builtin.find(photo)
    assert_is_there(face, face_centre(scale, centre), scale * FACE_WIDTH)


@pytest.mark.parametrize("roll_deg", [0, 90, 210])
def test_faces_that_only_the_finer_tiles_show(builtin, placed, roll_deg):
    scale, canvas_hw, centre = 0.42, (1000, 1230), (700, 520)  # 0.031 of the photo
    face, *others = builtin.find(placed(scale, canvas_hw, centre, roll_deg))
    assert_is_there(face, face_centre(scale, centre, roll_deg), scale * FACE_WIDTH)
    assert not others


@pytest.mark.parametrize(
    "length, starts", [(100, [0]), (256, [0]), (257, [0, 1]), (448, [0, 192]), (449, [0, 96, 193])]
)
def test_tile_starts(length, starts):
    assert detect._starts(length) == starts


def test_a_face_that_fills_the_photo(builtin, photo):
    x, y = round(FACE_CENTRE[0]), round(FACE_CENTRE[1])
    (face,) = builtin.find(Photo(np.ascontiguousarray(photo.rgb[y - 58 : y + 60, x - 52 : x + 52])))
    assert_is_there(face, (52, 58), FACE_WIDTH)


def test_several_faces_largest_first(builtin, placed):
    places = [(0.5, (150, 420)), (1.0, (300, 256)), (0.7, (650, 260))]
    rgb = np.full((560, 840, 3), 120, np.uint8)
    for scale, (x, y) in places:
        part = placed(scale, (560, 840), (x, y)).rgb
        half = round(118 * scale)
        cx, cy = (round(value) for value in face_centre(scale, (x, y)))
        rgb[max(cy - half, 0) : cy + half, cx - half : cx + half] = part[
            max(cy - half, 0) : cy + half, cx - half : cx + half
        ]
    faces = builtin.find(Photo(rgb))
    assert len(faces) == 3
    for face, (scale, centre) in zip(faces, sorted(places, reverse=True), strict=True):
        assert_is_there(face, face_centre(scale, centre), scale * FACE_WIDTH)


def faceless():
    generator = np.random.default_rng(0)
    y, x = np.mgrid[0:300, 0:420]
    waves = 128 + 60 * np.sin(x / 23) + 60 * np.cos(y / 17 + x / 61)
    blurred = np.kron(generator.integers(0, 256, (15, 21, 3)), np.ones((20, 20, 1)))
    return {
        "plain": np.full((300, 420, 3), 140),
        "noise": generator.integers(0, 256, (300, 420, 3)),
        "blocks": blurred,
        "gradient": np.stack([x * 255 / 420, y * 255 / 300, 255 - x * 255 / 420], -1),
        "checkerboard": np.repeat(((x // 25 + y // 25) % 2 * 255)[..., None], 3, 2),
        "stripes": np.repeat(((x + y) // 18 % 2 * 255)[..., None], 3, 2),
        "waves": np.stack([waves, 255 - waves, waves / 2], -1),
        "disc": np.where(((x - 200) ** 2 + (y - 150) ** 2 < 90**2)[..., None], (225, 185, 160), (60, 70, 90)),
    }


@pytest.mark.parametrize("name", faceless())
def test_no_face_where_there_is_none(builtin, name):
    assert builtin.find(Photo(faceless()[name].astype(np.uint8))) == ()


def test_the_body_without_its_head_has_no_face(builtin, photo):
    for rgb in (photo.rgb[230:], photo.rgb[:, 330:], photo.rgb[:, :140]):
        assert builtin.find(Photo(np.ascontiguousarray(rgb))) == ()


@pytest.mark.parametrize("size_hw", [(300, 1000), (1000, 300), (64, 64), (65, 511)])
def test_odd_sizes(builtin, placed, size_hw):
    scale = min(size_hw) / 512
    centre = (size_hw[1] * 0.5, size_hw[0] * 0.5)
    faces = builtin.find(placed(scale, size_hw, centre))
    if min(size_hw) >= 300:
        (face,) = faces
        assert_is_there(face, face_centre(scale, centre), scale * FACE_WIDTH)
    else:
        assert len(faces) <= 1  # 12 px: too small to promise anything but an answer
