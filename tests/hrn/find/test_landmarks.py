"""From a box to its crop, and from heatmaps to points."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from hrn_opt.hrn.find import crops, landmarks
from tests.hrn.find.stand_ins import FakeS3FD

# 68 points


@pytest.fixture
def regressor(reference) -> landmarks.BoxRegressor:
    return landmarks.BoxRegressor(*(reference[name] for name in ("w1", "b1", "w2", "b2")))


def test_five_points_choose_the_crop(reference, regressor):
    photo, point_crops = reference["photo"], iter(reference["point_crops"])
    for five, box, scale in zip(reference["fives"], reference["boxes"], reference["scales"], strict=True):
        points = np.zeros((106, 2))
        points[list(landmarks.FIVE_OF_106)] = five
        view = landmarks.view_for_points(regressor, points, photo.shape[:2])
        assert view.window.shows(photo.shape[:2]) == (scale > 0)
        if scale:
            assert (view.window.left, view.window.top, view.side) == tuple(box[:3])
            assert view.to_photo(np.array([224.0, 0.0])).tolist() == pytest.approx([224 / scale + box[0], box[1]])
            difference = np.abs(crops.cut_for_points(photo, view.window) - next(point_crops).astype(int))
            assert difference.max() <= 1 and (difference > 0).mean() < 0.002  # as the cubic resize


def test_coinciding_points_choose_nothing(regressor):
    view = landmarks.view_for_points(regressor, np.ones((106, 2)), (90, 80))
    assert not view.window.shows((90, 80))


def test_fan_sees_what_face_alignment_cuts(reference):
    x, y, scale = reference["fan_view"].tolist()
    seen = crops.cut_for_fan(reference["crop"], landmarks.FanView((x, y), scale).window)
    np.testing.assert_array_equal(seen, reference["fan_seen"])


def test_heatmaps_are_read_as_face_alignment_does(reference):
    x, y, scale = reference["fan_view"].tolist()
    heatmaps = torch.from_numpy(reference["heatmaps"]).float()
    np.testing.assert_allclose(landmarks.peak_positions(heatmaps)[0], reference["heatmap_places"], rtol=0, atol=1e-6)
    view = landmarks.FanView((x, y), scale)
    assert view.points_from(landmarks.peak_positions(heatmaps)[0]).tolist() == reference["fan_points"].tolist()


# All of it, with networks that answer what they are told


def test_s3fds_cells_are_counted_through_all_grids():
    grids = [torch.zeros(2, 6, size, size + 1) for size in (5, 3, 2)]
    grids[1][1, 2:, 2, 1] = torch.tensor([1.0, -2.0, 5 * np.log(2.0), 0.0])
    box = landmarks._s3fd_box(grids, 1, 5 * 6 + 2 * 4 + 1)
    # 8 px apart with anchors of 32 px: the middle (12, 20) goes by (3.2, -6.4); the sides are 64 and 32 px.
    np.testing.assert_allclose(box, [15.2 - 32, 13.6 - 16, 15.2 + 32, 13.6 + 16], rtol=0, atol=1e-4)


def test_s3fd_is_shown_bgr_less_its_mean():
    shown = []

    def network(image: Tensor) -> list[Tensor]:
        shown.append(image)
        return FakeS3FD()(image)

    crop = np.empty((1, 224, 224, 3), np.uint8)
    crop[:] = (10, 20, 30)
    landmarks.best_faces(network, crop)
    assert shown[0][0, :, 5, 7].tolist() == [30 - 104, 20 - 117, 10 - 123]
