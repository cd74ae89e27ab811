"""Which candidates are faces and which way up: tight framings, faces on their side, small ones beside large ones."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from hrn_opt.builtin.align import FacePoints
from hrn_opt.builtin.confirm import _distinct
from hrn_opt.builtin.points import OUTER_EYE_CORNERS, POINT_COUNT
from hrn_opt.types import Photo
from tests.builtin.occluders import MASK

EYES = np.array([[195.6, 100.9], [255.9, 104.1]])  # outer corners in the example photo, pixels
EYE_DISTANCE = 60.4
FACE_CENTRE = (225, 124)
FACE_WIDTH = 92.0
# One pass leaves up to 0.04; of a face upside down or of a fragment the eyes are off by 0.3 to 1.2.
EYES_OFF = 0.12  # of the eye distance


def tight(photo, half_px, shift_xy, width_px):
    """The example cropped round its face and resized, and where the eyes are then."""
    x, y = FACE_CENTRE[0] + shift_xy[0], FACE_CENTRE[1] + shift_xy[1]
    top = max(y - half_px, 0)
    crop = Image.fromarray(photo.rgb).crop((x - half_px, top, x + half_px, y + half_px))
    scale = width_px / crop.width
    resized = crop.resize((width_px, round(crop.height * scale)), Image.Resampling.BICUBIC)
    return Photo(np.asarray(resized)), (EYES - (x - half_px, top)) * scale


def eyes_off(face, eyes):
    """Of the eye distance: how far the farther one is from where it should be."""
    seen = face.points[list(OUTER_EYE_CORNERS), :2].numpy()
    return np.linalg.norm(seen - eyes, axis=1).max() / np.linalg.norm(eyes[1] - eyes[0])


@pytest.mark.parametrize("half_px, width_px", list(product((56, 64, 74, 84, 96, 108, 120), (400, 1000))))
def test_tight_framings(builtin, photo, half_px, width_px):
    # Tiles cut a close face; a fragment turned on its head once took the whole face's place.
    for shift_xy in ((0, 0), (8, 0), (-8, 0), (0, 8), (0, -8)):
        picture, eyes = tight(photo, half_px, shift_xy, width_px)
        (face,) = builtin.find(picture)
        assert eyes_off(face, eyes) < EYES_OFF, shift_xy


@pytest.mark.parametrize("quarter_turns", [1, 2, 3])
@pytest.mark.parametrize("half_px, width_px", [(64, 400), (84, 1000), (108, 400)])
def test_tight_framings_turned(builtin, photo, half_px, width_px, quarter_turns):
    picture, eyes = tight(photo, half_px, (4, -4), width_px)
    height, width = picture.size_hw
    (face,) = builtin.find(Photo(np.ascontiguousarray(np.rot90(picture.rgb, quarter_turns))))
    x, y = eyes.T
    turned = {1: (y, width - x), 2: (width - x, height - y), 3: (height - y, x)}[quarter_turns]
    assert eyes_off(face, np.stack(turned, -1)) < EYES_OFF


def test_small_faces_beside_a_large_one(builtin, photo):
    portrait = Image.fromarray(photo.rgb)
    canvas = Image.new("RGB", (1400, 1100), (118, 126, 134))
    canvas.paste(portrait.resize((900, 900), Image.Resampling.LANCZOS), (0, 200))
    head = portrait.crop((135, 20, 325, 215))
    sides = (96, 104, 112, 120)  # the head's crop; the face is 0.48 of it: 0.033 to 0.041 of the photo
    corners = [(1020 + 190 * (k % 2), 90 + 250 * (k // 2)) for k in range(8)]
    for corner, side in zip(corners, sides * 2, strict=True):
        canvas.paste(head.resize((side, side), Image.Resampling.LANCZOS), corner)
    large, *small = builtin.find(Photo(np.asarray(canvas)))
    assert large.box.width == pytest.approx(FACE_WIDTH * 900 / 512, rel=0.1)
    assert len(small) == 8
    for corner, side in zip(corners, sides * 2, strict=True):
        centre = corner[0] + side * 90 / 190, corner[1] + side * 104 / 195
        middles = [((face.box.left + face.box.right) / 2, (face.box.top + face.box.bottom) / 2) for face in small]
        assert min(math.dist(centre, middle) for middle in middles) < 0.1 * side


def located(left, top, side, presence):
    points = torch.zeros(POINT_COUNT, 3)
    points[0, :2], points[1, :2] = torch.tensor([left, top]), torch.tensor([left + side, top + side])
    points[2:, :2] = torch.tensor([left + side / 2, top + side / 2])
    return FacePoints(points, presence)


def test_faces_are_kept_once_and_only_when_present():
    best, same, round_it, other, absent = (
        located(0, 0, 10, 0.9),
        located(1, 1, 10, 0.99),
        located(-8, -8, 26, 0.95),  # encloses the best one: overlap over union is only 0.15
        located(40, 0, 10, 0.7),
        located(60, 0, 9, 0.5),
    )
    ranked = [absent, best, same, round_it, other]  # the order decides, not presence
    assert [id(one) for one in _distinct(ranked, [])] == [id(best), id(other)]
    assert _distinct([best, other], [same]) == [other]
    assert _distinct([], []) == [] and _distinct([absent], []) == []


@pytest.mark.parametrize("colour", [(150, 188, 222), (245, 245, 245), (40, 44, 60)])
def test_a_mask_does_not_turn_a_face_upside_down(builtin, photo, colour):
    """Hair over a cloth looks like a beard under a bald head."""
    points_xy = builtin.find(photo)[0].points[:, :2].numpy()
    picture = Image.fromarray(photo.rgb)
    ImageDraw.Draw(picture).polygon([tuple(points_xy[point]) for point in MASK], fill=colour)
    (face,) = builtin.find(Photo(np.asarray(picture).copy()))
    eyes = list(OUTER_EYE_CORNERS)
    assert (face.points[eyes, :2] - torch.from_numpy(points_xy[eyes])).norm(dim=1).max() < 8
