"""Faces that no likeness can come from are refused, doubtful ones advised on; the limits are those of the module."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from hrn_opt.errors import FaceTooSmall, FaceTurnedTooFar, PhotoTooDark
from hrn_opt.photo import quality
from hrn_opt.photo.quality import assess_face, assess_skin, assess_yaw, brightness_of
from hrn_opt.types import Box, Face, Photo


def face_of(width_px, height_px=None, left=0.0):
    return Face(Box(left, 0, left + width_px, height_px or 1.3 * width_px), torch.zeros(5, 2), 1.0)


def photo_of(level):
    return Photo(np.full((300, 200, 3), level, np.uint8))


@pytest.mark.parametrize(("width_px", "keys"), [(48, []), (47, ["FaceSmall"]), (20, ["FaceSmall"])])
def test_a_small_face_is_advised_on(width_px, keys):
    assert [advice.key for advice in assess_face(photo_of(120), face_of(width_px))] == keys


def test_a_tiny_face_is_refused_with_its_figures():
    with pytest.raises(FaceTooSmall, match="13 pixels wide and needs 20") as caught:
        assess_face(photo_of(120), face_of(13.2))
    assert caught.value.values == {"width_px": 13, "least_px": 20}


@pytest.mark.parametrize(("level", "keys"), [(40, []), (39, ["PhotoDark"]), (10, ["PhotoDark"])])
def test_a_dark_face_is_advised_on(level, keys):
    assert [advice.key for advice in assess_face(photo_of(level), face_of(90))] == keys


def test_a_black_face_is_refused():
    with pytest.raises(PhotoTooDark, match="light on the face"):
        assess_face(photo_of(9), face_of(90))


def test_brightness_is_that_of_the_faces_highlights():
    rgb = np.full((300, 200, 3), 255, np.uint8)
    rgb[:130, :100] = 20
    rgb[40:60, :100] = 90  # 15 % of the box
    assert brightness_of(Photo(rgb), face_of(100, 130)) == 90


def test_a_box_past_the_border_is_looked_at_within():
    assert brightness_of(photo_of(77), face_of(60, left=190.0)) == 77
    assert brightness_of(photo_of(77), face_of(60, left=500.0)) == 77


@pytest.mark.parametrize(("yaw_deg", "keys"), [(-24, []), (26, ["FaceTurned"]), (-59, ["FaceTurned"])])
def test_a_turned_face_is_advised_on(yaw_deg, keys):
    assert [advice.key for advice in assess_yaw(math.radians(yaw_deg))] == keys


def test_a_profile_is_refused_either_way():
    for yaw_deg in (75, -75):
        with pytest.raises(FaceTurnedTooFar, match="75° away") as caught:
            assess_yaw(math.radians(yaw_deg))
        assert caught.value.values == {"yaw_deg": 75, "most_deg": quality.MOST_YAW_DEG}


def test_the_example_needs_no_advice(model, example_photo):
    assert model.reconstruct(example_photo, texture_size=512).advice == ()


def test_a_photo_made_smaller_or_darker_is_told_so(model, example_photo):
    whole = Image.open(example_photo).convert("RGB")
    small = Image.new("RGB", whole.size, "grey")
    small.paste(whole.resize((200, 200), Image.Resampling.LANCZOS))
    dark = whole.point(lambda level: level * 0.15)
    assert [one.key for one in model.reconstruct(small, texture_size=512).advice] == ["FaceSmall"]
    assert [one.key for one in model.reconstruct(dark, texture_size=512).advice] == ["PhotoDark"]
    small.paste(whole.resize((105, 105), Image.Resampling.LANCZOS))
    small.paste("grey", (105, 0, 512, 512))
    small.paste("grey", (0, 105, 512, 512))
    with pytest.raises(FaceTooSmall):
        model.reconstruct(small)


@pytest.mark.parametrize(
    ("covered", "clipped", "wanted"),
    [(0.0, 0.0, []), (0.19, 0.02, []), (0.21, 0.0, ["FaceCovered"]), (0.5, 0.04, ["FaceCovered", "PhotoBright"])],
)
def test_what_covers_a_face_or_burns_it_out_is_advised_on(covered, clipped, wanted):
    advice = assess_skin(covered, clipped)
    assert [one.key for one in advice] == wanted
    assert [one.values["percent"] for one in advice] == [round(100 * share) for share in (covered, clipped)][
        : len(advice)
    ]
