"""The squares that are cut out of a photo, and resized as OpenCV does."""

from __future__ import annotations

import numpy as np
import pytest

from hrn_opt.hrn.exact import opencv_resize
from hrn_opt.hrn.find import crops

# Resampling


@pytest.mark.parametrize("name", ["smaller", "larger", "half"])
def test_linear_is_opencvs_to_the_last_bit(reference, name):
    want = reference[f"linear_{name}"]
    np.testing.assert_array_equal(opencv_resize.resize_linear(reference["picture"], want.shape[:2]), want)


@pytest.mark.parametrize("name", ["smaller", "larger", "half"])
def test_cubic_is_opencvs_but_for_rounding(reference, name):
    want = reference[f"cubic_{name}"].astype(int)
    difference = np.abs(opencv_resize.resize_cubic(reference["picture"], want.shape[:2]) - want)
    assert difference.max() <= 1 and (difference > 0).mean() < 0.002  # IPP sums in another order


def test_resizing_to_the_same_size_is_free(reference):
    picture = reference["picture"]
    assert (
        opencv_resize.resize_linear(picture, (60, 82)) is picture
        and opencv_resize.resize_cubic(picture, (60, 82)) is picture
    )


# Crops


def test_a_square_over_the_border_is_filled_with_the_mean_colour():
    photo = np.full((40, 60, 3), 9, np.uint8)
    # Left of the photo by 20.9 px, which is cut to 20: of 70 px in 224, the first 64 are border.
    crop = crops.cut_square(photo, crops.Square(-20.9, 5.0, 70.9))
    assert crop[100, :62].tolist() == [[104, 117, 124]] * 62
    assert (crop[:100, 68:] == 9).all()
    assert crop[-1, -1].tolist() == [104, 117, 124]


def test_the_square_round_a_box_is_enlarged_round_its_middle():
    square = crops.square_around(10, 20, 29, 59)  # 20 × 40 px, its last pixel at 29, 59
    assert square.side == pytest.approx(1.35 * 40)
    assert (square.left + square.side / 2, square.top + square.side / 2) == pytest.approx((19.5, 39.5))


@pytest.mark.parametrize(
    ("square", "shown"),
    [
        ((-30.0, 5.0, 31.5), True),
        ((-30.0, 5.0, 30.5), False),
        ((60.0, 5.0, 9.0), False),
        ((5.0, -900.0, 9999.0), False),
    ],
)
def test_which_squares_show_some_of_the_photo(square, shown):
    assert crops.Square(*square).window.shows((40, 60)) is shown
