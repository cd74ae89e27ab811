"""Widening, held against the published pipeline and OpenCV."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hrn_opt.hrn.align import widening
from hrn_opt.hrn.exact.opencv_blur import blurred_at
from hrn_opt.hrn.exact.opencv_lines import stroke_mask
from hrn_opt.hrn.exact.opencv_resize import resize_cubic
from hrn_opt.hrn.networks import landmarks106, retinaface
from hrn_opt.hrn.networks.folding import load_network
from hrn_opt.types import Box
from tests.oracle.official_find import OfficialFinder, official_modules, waving_picture, with_points

pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module")
def modules():
    return official_modules()


def official_pipeline(modules):
    return modules.pipeline.FaceReconstructionPipeline.__new__(modules.pipeline.FaceReconstructionPipeline)


@pytest.mark.parametrize("seed", range(6))
def test_the_widened_crop(modules, seed):
    random = np.random.default_rng(seed)
    crop, (points, box) = waving_picture(random, (224, 224)), with_points(random)
    pipeline = official_pipeline(modules)
    pipeline.infer_lmks = lambda _: ([dict(zip(("x1", "y1", "x2", "y2"), box.tolist(), strict=True))], [points])
    want = pipeline.fat_face(crop, degree=widening.DEGREE)
    got = widening.warped(
        crop, widening.face_flow(Box(*map(float, box)), points, (800, 800), (224, 224), widening.DEGREE)
    )
    difference = np.abs(got - want.astype(int))
    assert (want != crop).any(-1).mean() > 0.05  # else the case proves nothing
    # Measured 2e-4 on average and at most 2e-5 over one level: OpenCV's angles are off by 2e-4, and both cut.
    assert difference.mean() < 0.002 and (difference > 1).mean() < 1e-4


@pytest.mark.parametrize("seed", range(3))
def test_both_contour_maps_are_equal(modules, seed):
    random = np.random.default_rng(seed)
    points, box = with_points(random)
    pipeline = official_pipeline(modules)
    pipeline.infer_lmks = lambda _: ([dict(zip(("x1", "y1", "x2", "y2"), box.tolist(), strict=True))], [points])
    maps, _ = pipeline.find_face_contour(np.zeros((800, 800, 3), np.uint8))
    stroke_px = widening._stroke_px(Box(*map(float, box)), (800, 800))
    everywhere = np.arange(800)
    drawn = (([widening.CONTOUR], stroke_px, maps[0]), (widening.FEATURES, 2 * stroke_px, maps[-1]))
    for outlines, thickness, want in drawn:
        mask = stroke_mask([outline.corners(points) for outline in outlines], thickness, (800, 800))
        np.testing.assert_array_equal(blurred_at(mask, 2 * stroke_px + 1, everywhere, everywhere), want)


def test_strokes(modules):
    """Every thickness, inside the picture and over its borders."""
    import cv2

    random = np.random.default_rng(1)
    for thickness in range(2, 60):
        height, width = random.integers(50, 300, 2).tolist()
        corners = random.integers(-60, 360, (5, 2))
        want = np.zeros((height, width), np.uint8)
        for start, end in zip(corners[:-1].tolist(), corners[1:].tolist(), strict=True):
            cv2.line(want, start, end, 255, thickness)
        np.testing.assert_array_equal(stroke_mask([corners], thickness, (height, width)), want > 0, f"{thickness} px")


@pytest.mark.parametrize("size", [9, 11, 33, 81, 121, 161])
def test_blur(modules, size):
    import cv2

    mask = np.random.default_rng(size).random((170, 230)) < 0.3
    want = cv2.GaussianBlur(mask.astype(np.uint8) * 255, (size, size), 0)
    np.testing.assert_array_equal(blurred_at(mask, size, np.arange(170), np.arange(230)), want)


@torch.no_grad()
def test_detection_on_swapped_channels(modules):
    """Which picture upstream's detector gets, and that ours finds the same box and points in it."""
    crop = waving_picture(np.random.default_rng(4), (224, 224))
    large = resize_cubic(np.ascontiguousarray(crop[..., ::-1]), (800, 800))
    finder = OfficialFinder(modules, large, seed=5)
    shown, predict = [], finder.detector.predict_jsons
    finder.detector.predict_jsons = lambda picture: shown.append(picture) or predict(picture)[:1]
    boxes, points = finder.pipeline.infer_lmks(modules.utils.resize_on_long_side(crop, 800)[0])
    difference = np.abs(shown[0] - large.astype(int))
    assert difference.max() <= 1 and (difference > 0).mean() < 0.002  # IPP sums in another order
    face = load_network(retinaface.RetinaFace, retinaface.from_official(finder.detector.model.state_dict()))
    network = load_network(landmarks106.Landmarks106, landmarks106.from_official(finder.landmarks.state_dict()))
    (found,) = widening.detect(face, [large])
    assert [found[0].box.left, found[0].box.bottom] == [boxes[0]["x1"], boxes[0]["y2"]]
    own = widening.closer_points(network, [large], found[:1])[0]
    # The one grey level here and there moves peaked random heatmaps by more than rounding would.
    assert np.abs(own - points[0]).max() < 5e-3 * np.ptp(points[0], 0).max()
