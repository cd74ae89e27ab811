"""Reducing a photo: one clean resample, no shift, and never an enlargement."""

import numpy as np
import pytest
from PIL import Image

from hrn_opt.photo.resize import resize_longest


def gradient(height, width):
    """Smooth, and different in each channel and along each axis."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 / (width - 1), y * 255 / (height - 1), np.full_like(x, 60)], -1).round().astype(np.uint8)


@pytest.mark.parametrize(
    ("size_hw", "longest_px", "out_hw"),
    [
        ((301, 203), 100, (100, 67)),
        ((203, 301), 100, (67, 100)),
        ((1000, 750), 128, (128, 96)),
        ((1000, 750), 999, (999, 749)),
        ((517, 1031), 160, (80, 160)),
        ((4000, 3), 100, (100, 1)),
        ((5, 9000), 10, (1, 10)),
    ],
)
def test_resize_agrees_with_one_plain_antialiased_resample(size_hw, longest_px, out_hw):
    rgb = gradient(*size_hw)
    before = rgb.copy()
    small = resize_longest(rgb, longest_px)
    plain = np.asarray(Image.fromarray(rgb).resize(out_hw[::-1], Image.Resampling.BILINEAR))
    assert small.shape == (*out_hw, 3) and small.dtype == np.uint8 and small.flags.writeable
    inner = np.s_[1:-1, 1:-1] if min(out_hw) > 4 else np.s_[:, :, :0]  # filters differ at the border and on lines
    assert np.abs(small[inner].astype(int) - plain[inner]).max(initial=0) <= 2  # a gradient: filters agree to rounding
    assert np.array_equal(rgb, before)


def test_resize_has_no_aliasing_and_no_shift():
    stripes = np.zeros((960, 1283, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(resize_longest(stripes, 200).astype(int) - 127.5).max() < 20
    spot = np.zeros((901, 1207, 3), np.uint8)
    spot[600:640, 900:960] = 255
    small = resize_longest(spot, 300).astype(float)[..., 0]
    y, x = np.mgrid[0 : small.shape[0], 0 : small.shape[1]] + 0.5
    centre = (small * x).sum() / small.sum() * 1207 / 300, (small * y).sum() / small.sum() * 901 / small.shape[0]
    assert centre == pytest.approx((930, 620), abs=0.5)  # half a photo pixel


def test_resize_never_enlarges():
    rgb = gradient(70, 96)
    assert resize_longest(rgb, 96) is rgb
    assert resize_longest(rgb, 400) is rgb
