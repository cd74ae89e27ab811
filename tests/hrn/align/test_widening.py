"""Widening, without the published code: against what it and OpenCV once gave (tools/find_reference.py)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from hrn_opt.hrn.align import widening
from hrn_opt.hrn.exact.opencv_blur import blurred_at
from hrn_opt.hrn.exact.opencv_lines import stroke_mask
from hrn_opt.hrn.networks.retinaface import RawFaces
from hrn_opt.types import Box


@pytest.fixture(scope="module")
def reference() -> dict[str, np.ndarray]:
    path = Path(__file__).parents[2] / "data" / "find_reference.npz"
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


@pytest.fixture(scope="module")
def line_masks(reference) -> np.ndarray:
    return np.unpackbits(reference["line_masks"], axis=-1, count=140).astype(bool)  # (2, 120, 140)


@pytest.mark.parametrize(("index", "thickness"), [(0, 5), (1, 12)])
def test_strokes_are_opencvs_to_the_last_pixel(reference, line_masks, index, thickness):
    mask = stroke_mask(reference["line_corners"], thickness, (120, 140))
    np.testing.assert_array_equal(mask, line_masks[index])


def test_a_stroke_outside_the_picture_draws_nothing():
    assert not stroke_mask([np.array([[-50, 4], [-40, 9]])], 6, (20, 30)).any()


def test_a_stroke_without_length_is_a_disc():
    mask = stroke_mask([np.array([[10, 9], [10, 9]])], 6, (20, 30))
    assert mask[9, 7:14].all() and mask.sum() == mask[6:13, 7:14].sum()
    np.testing.assert_array_equal(mask[6:13, 7:14], mask[6:13, 7:14][::-1])


def test_the_blur_is_opencvs_to_the_last_bit(reference, line_masks):
    rows, columns = np.array([0, 3, 119, 60, 60]), np.arange(140)
    np.testing.assert_array_equal(
        blurred_at(line_masks[0], 25, rows, columns), reference["blurred"][np.ix_(rows, columns)]
    )


def flow_of(reference, degree: float = widening.DEGREE) -> np.ndarray:
    box = Box(*map(float, reference["box"]))
    return widening.face_flow(box, reference["points"], (800, 800), (224, 224), degree)


def test_the_widened_crop_is_the_published_one(reference):
    widened = widening.warped(reference["crop"], flow_of(reference))
    difference = np.abs(widened - reference["widened"].astype(int))
    moved = (reference["widened"] != reference["crop"]).any(-1)
    assert moved.mean() > 0.05  # else the case proves nothing
    # Our angles are exact, OpenCV's off by 2e-4; cutting to whole grey levels turns that into single levels.
    assert difference.mean() < 0.002 and (difference > 1).mean() < 1e-4


def test_what_lies_between_contour_and_features_stays(reference):
    flow, box = flow_of(reference), reference["box"] * 224 // 800
    assert np.abs(flow).max() > 1
    outside = np.ones((224, 224), bool)
    side = max(box[2] - box[0], box[3] - box[1])
    middle_x, middle_y = (box[0] + box[2]) // 2, (box[1] + box[3]) // 2
    outside[max(middle_y - side, 0) : middle_y + side, max(middle_x - side, 0) : middle_x + side] = False
    assert not flow[outside].any()
    mouth = (reference["points"][84:96].mean(0) * 224 / 800).astype(int)
    assert np.abs(flow[mouth[1], mouth[0]]).max() < widening.STILL_PX


def test_the_flow_grows_with_the_degree(reference):
    np.testing.assert_allclose(flow_of(reference, 0.06), 2 * flow_of(reference, 0.03), rtol=1e-5, atol=1e-7)


def test_a_still_flow_changes_nothing(reference):
    picture = reference["picture"]
    flow = np.full((60, 82, 2), 0.1999)
    np.testing.assert_array_equal(widening.warped(picture, flow), picture)


@pytest.mark.parametrize(
    ("shift", "weights"),
    [
        ((0.5, 0.25), ((0.375, 0.375), (0.125, 0.125))),
        ((0.85, 0.1), ((0.0, 1.0), (0.0, 0.0))),  # near a corner: that pixel, unmixed
        ((-0.9, 0.3), ((0.63, 0.07), (0.27, 0.03))),  # across is near a pixel, down is not: mixed; from one pixel left
    ],
)
def test_warping_reads_where_the_flow_points(reference, shift, weights):
    picture = reference["picture"]
    warped = widening.warped(picture, np.broadcast_to(np.array(shift), (60, 82, 2)))
    left = 30 + int(np.floor(shift[0]))
    want = np.einsum("yx,yxc->c", np.array(weights), picture[20:22, left : left + 2].astype(float))
    np.testing.assert_allclose(warped[20, 30], np.floor(want + 1e-9), rtol=0, atol=0)


def test_past_the_border_the_border_is_read(reference):
    picture = reference["picture"]
    far = widening.warped(picture, np.broadcast_to(np.array([500.0, -500.0]), (60, 82, 2)))
    assert (far == picture[0, -1]).all()


def no_face(images: Tensor) -> RawFaces:
    count = 2 * (64**2 + 32**2 + 16**2)
    return RawFaces(torch.tensor([9.0, 0.0]).expand(len(images), count, 2), torch.zeros(len(images), count, 4))


def one_face(images: Tensor) -> RawFaces:
    """A 256 px face at (272, 272) of 512 px, in pictures that are not black."""
    raw = no_face(images)
    logits = raw.logits.clone()
    logits[images[:, 1, 256, 256] > 0, 2 * (64**2 + 32**2) + 2 * (8 * 16 + 8), 1] = 12.0
    return RawFaces(logits, raw.offsets)


class Points106:
    """Always the same points; keeps what it was shown."""

    def __init__(self, points: np.ndarray):
        self.points = torch.from_numpy(points).float()
        self.shown: list[Tensor] = []

    def __call__(self, crops: Tensor) -> Tensor:
        self.shown.append(crops)
        return self.points.expand(len(crops), -1, -1)


def test_degree_zero_is_the_crop_itself_and_runs_nothing(reference):
    (same,) = widening.widen_cheeks(None, None, [reference["crop"]], degree=0.0)
    assert same is reference["crop"]


def test_without_a_face_the_crop_comes_back(reference):
    (same,) = widening.widen_cheeks(no_face, None, [reference["crop"]])
    assert same is reference["crop"]


def test_several_crops_at_once_and_their_channels_swapped(reference):
    crop, black = reference["crop"], np.zeros((224, 224, 3), np.uint8)
    points = (reference["points"] - reference["points"].min(0)) / np.ptp(reference["points"], 0)
    network = Points106(points)
    first, second, third = widening.widen_cheeks(one_face, network, [crop, black, crop])
    assert second is black
    np.testing.assert_array_equal(first, third)
    assert (first != crop).any()
    blue = np.zeros((224, 224, 3), np.uint8)
    blue[..., 1:] = (128, 255)
    widening.widen_cheeks(one_face, network, [blue])
    shown = network.shown[-1][0, :, 112, 112] * 255 + torch.tensor([103.94, 116.78, 123.68])
    assert shown.round().tolist() == [255, 128, 0]  # the swap that upstream makes
