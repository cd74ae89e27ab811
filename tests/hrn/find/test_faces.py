"""Finding faces, without the published code: against what it and OpenCV once gave (tools/find_reference.py)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from hrn_opt.hrn.find import faces as find
from hrn_opt.hrn.find import landmarks
from hrn_opt.hrn.networks.retinaface import RawFaces
from hrn_opt.types import Box
from tests.hrn.find.stand_ins import MIDDLE_ANCHOR, FakeFan, FakeS3FD, raw_faces


def networks(raw: RawFaces, points: Tensor | None = None) -> find.FindNetworks:
    """points: (106, 2) in 0..1 of every crop; by default spread over its middle half."""
    spread = torch.linspace(0.25, 0.75, 106)
    points = torch.stack([spread, spread.flip(0)], 1) if points is None else points
    regressor = landmarks.BoxRegressor(
        np.zeros((4, 10)), np.zeros((4, 1)), np.zeros((3, 4)), np.array([[-2.0], [-2.0], [56.0]])
    )
    return find.FindNetworks(
        lambda images: RawFaces(raw.logits.expand(len(images), -1, -1), raw.offsets.expand(len(images), -1, -1)),
        lambda crops: points.expand(len(crops), -1, -1),
        FakeS3FD(),
        FakeFan(),
        regressor,
    )


SMALL_ANCHOR = 2 * 64**2 + 2 * (4 * 32 + 25)  # 64 px at (408, 72)


def test_every_face_largest_first():
    photo = find.working_photo(np.full((512, 512, 3), 200, np.uint8))
    found = find.find_faces(networks(raw_faces((SMALL_ANCHOR, 4.0), (MIDDLE_ANCHOR, 2.0))), photo)
    assert [face.box.width for face in found] == [256, 64]
    for face in found:
        assert face.points.shape == (68, 2) and face.points.dtype == torch.float32
        assert face.box.left < face.points.mean(0)[0] < face.box.right
        assert face.box.top < face.points.mean(0)[1] < face.box.bottom


def test_boxes_are_done_in_batches_without_a_difference():
    photo = find.working_photo(np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8))
    anchors = [(2 * 64**2 + 2 * (32 * row + column), 3.0 - 0.01 * row) for row in (5, 14, 23) for column in (6, 25)]
    together = find.find_faces(networks(raw_faces(*anchors)), photo)
    apart = find.find_faces(replace(networks(raw_faces(*anchors)), faces_at_once=2), photo)
    assert len(together) == 6
    for one, other in zip(together, apart, strict=True):
        assert one.box == other.box and one.points.tolist() == other.points.tolist()


def test_a_face_that_s3fd_does_not_see_is_lost_alone():
    picture = np.full((512, 512, 3), 200, np.uint8)
    picture[:, :340] = 0
    found = find.find_faces(networks(raw_faces((SMALL_ANCHOR, 4.0), (MIDDLE_ANCHOR, 2.0))), find.working_photo(picture))
    assert [face.box.width for face in found] == [64]


def test_no_face_gives_none():
    found = find.find_faces(networks(raw_faces()), find.working_photo(np.zeros((70, 90, 3), np.uint8)))
    assert found == ()


def test_points_outside_the_photo_lose_the_face():
    far = torch.tensor([[40.0, 40.0]]).expand(106, 2)
    found = find.find_faces(
        networks(raw_faces((MIDDLE_ANCHOR, 2.0)), far), find.working_photo(np.zeros((512, 512, 3), np.uint8))
    )
    assert found == ()


def test_points_on_the_photo_follow_the_crops():
    photo = find.working_photo(np.full((512, 512, 3), 200, np.uint8))
    finding = networks(raw_faces((MIDDLE_ANCHOR, 2.0)))
    (face,) = find.find_faces(finding, photo)
    (detections,) = find.detect(finding.retinaface, [photo.rgb])
    closer = torch.from_numpy(find.closer_points(finding.landmarks106, [photo.rgb], detections)[0])
    five = closer[list(landmarks.FIVE_OF_106)]
    spread = (five - five.mean(0)).square().sum().div(5).sqrt()
    left_top, side = (five.mean(0) - 2 * spread).round(), round(float(224 / 56 * spread))
    # FAN looks at 128 px boxes round (80, 80): heatmap (16.5, 32.5) of 64, which spans 200 · 256 / 195 px.
    span = 200 * 256 / landmarks.FAN_REFERENCE_PX
    view = torch.tensor([80.0, 80.0 - 0.12 * 128]) + (torch.tensor([16.5, 32.5]) / 64 - 0.5) * span
    torch.testing.assert_close(
        face.points[0].double(), view.double().trunc() * side / 224 + left_top, atol=1e-3, rtol=0
    )


@pytest.mark.parametrize(
    ("size_hw", "working_hw"), [((2000, 900), (2000, 900)), ((901, 2001), (675, 1500)), ((2400, 1001), (1500, 625))]
)
def test_large_photos_are_reduced_and_points_come_back(size_hw, working_hw):
    photo = find.working_photo(np.zeros((*size_hw, 3), np.uint8))
    assert photo.size_hw == working_hw and photo.photo_size_hw == size_hw
    corner = torch.tensor([[-0.5, -0.5], [working_hw[1] - 0.5, working_hw[0] - 0.5]], dtype=torch.float64)
    there = photo.to_photo(corner)
    torch.testing.assert_close(there, corner.new_tensor([[0, 0], [size_hw[1], size_hw[0]]]))
    torch.testing.assert_close(photo.from_photo(there), corner)
    whole = photo.box_to_photo(Box(0, 0, working_hw[1], working_hw[0]))
    assert (whole.right, whole.bottom) == pytest.approx((size_hw[1], size_hw[0]))
