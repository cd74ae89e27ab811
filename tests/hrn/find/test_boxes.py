"""From RetinaFace's answer to boxes on the photo."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from hrn_opt.hrn.find import boxes as detect
from hrn_opt.types import Box
from tests.hrn.find.stand_ins import ANCHOR_COUNT, MIDDLE_ANCHOR, raw_faces


def test_a_box_is_brought_back_through_padding_and_scale():
    (found,) = detect.decode(raw_faces((MIDDLE_ANCHOR, 2.0)), (600, 1000))
    # 144 to 400 px at 512 px; above it 102 of the 205 padded rows; then × 1000 / 512, cut.
    assert found.box == Box(281.0, 82.0, 781.0, 582.0)
    assert found.score == pytest.approx(1 / (1 + np.exp(-2.0)))


def test_offsets_move_and_grow_the_anchor():
    raw = raw_faces((MIDDLE_ANCHOR, 2.0))
    raw.offsets[0, MIDDLE_ANCHOR] = torch.tensor([0.5, -1.0, 5 * np.log(0.5), 5 * np.log(0.75)])
    (found,) = detect.decode(raw, (512, 512))
    # The middle goes by tenths of 256 px, from 272 to 284.8 and 246.4; the sides become 128 and 192 px.
    assert found.box == Box(220.0, 150.0, 348.0, 342.0)


def test_scores_order_the_boxes_and_the_threshold_cuts_them():
    small = 2 * (8 * 64 + 8), 2 * (40 * 64 + 40)
    margin = float(np.log(0.7 / 0.3))
    found = detect.decode(raw_faces((small[0], 1.0), (MIDDLE_ANCHOR, 2.0), (small[1], margin - 1e-3)), (512, 512))
    assert [round(face.box.width) for face in found] == [256, 16]


def test_no_face_is_no_error():
    assert detect.decode(raw_faces(), (300, 200)) == ()


def test_of_overlapping_boxes_the_best_stays():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10], [4.2, 0, 14.2, 10], [0, 6, 10, 16]])
    assert detect.suppress(boxes, 0.4).tolist() == [0, 2, 4]  # 0.9, 0, 58 / 142, 40 / 160


def test_suppression_leaves_nothing_that_overlaps_more():
    generator = torch.Generator().manual_seed(1)
    corners = torch.rand(80, 2, generator=generator) * 60
    boxes = torch.cat([corners, corners + 5 + 30 * torch.rand(80, 2, generator=generator)], 1)
    kept = detect.suppress(boxes, 0.3)
    overlaps = torch.stack([_overlap(box, boxes[kept]) for box in boxes])  # (80, K)
    assert (overlaps[kept].fill_diagonal_(0) <= 0.3).all()
    for index in set(range(80)) - set(kept.tolist()):
        assert overlaps[index][kept < index].max() > 0.3


def _overlap(box: Tensor, boxes: Tensor) -> Tensor:
    sides = torch.minimum(box[2:], boxes[:, 2:]) - torch.maximum(box[:2], boxes[:, :2])
    shared = sides.clamp(min=0).prod(1)
    return shared / ((box[2:] - box[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(1) - shared)


def test_anchors_lie_as_published():
    anchors = detect.anchors() * 512
    assert anchors.shape == (ANCHOR_COUNT, 4)
    assert anchors[0].tolist() == [4, 4, 16, 16] and anchors[3].tolist() == [12, 4, 32, 32]
    assert anchors[MIDDLE_ANCHOR].tolist() == [272, 272, 256, 256]


def test_the_picture_is_padded_evenly_and_normalised():
    image = detect.to_input(np.full((30, 60, 3), 255, np.uint8))
    assert image.shape == (3, 512, 512)
    assert (image[:, :128] == 0).all() and (image[:, 384:] == 0).all()
    assert image[:, 200, 10].tolist() == pytest.approx(
        [(1 - m) / d for m, d in ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))]
    )
