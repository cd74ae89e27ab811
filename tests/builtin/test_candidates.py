"""Boxes that overlap or lie inside one another, and what is made of them."""

import torch
from torch.testing import assert_close

from hrn_opt.builtin.candidates import Candidates, concatenate, merge, overlap, same_face


def test_overlap():
    boxes = torch.tensor([[0.0, 0, 4, 2], [2, 1, 6, 3], [10, 10, 12, 11], [4, 0, 8, 2]])
    assert_close(overlap(boxes[0], boxes), torch.tensor([1.0, 2 / 14, 0.0, 0.0]))


def test_merging_is_the_mean_by_score_and_keeps_the_best_score():
    boxes = torch.tensor([[0.0, 0, 10, 10], [2, 0, 12, 10], [50, 50, 60, 70]])
    eyes = boxes.view(3, 2, 2) + 1
    merged = merge(Candidates(boxes, eyes, torch.tensor([0.6, 0.9, 0.7])))
    assert_close(merged.boxes, torch.tensor([[1.2, 0, 11.2, 10], [50, 50, 60, 70]]))
    assert_close(merged.eyes, merged.boxes.view(2, 2, 2) + 1)
    assert_close(merged.scores, torch.tensor([0.9, 0.7]))


def test_a_box_round_another_shows_the_same_face():
    boxes = torch.tensor([[0.0, 0, 10, 10], [-10, -10, 25, 25], [8, 8, 18, 18], [30, 30, 40, 40]])
    assert same_face(boxes[0], boxes).tolist() == [True, True, False, False]


def test_nothing_stays_nothing():
    nothing = concatenate([])
    assert len(nothing) == len(merge(nothing)) == len(nothing.best_first()) == 0
    assert nothing.boxes.shape == (0, 4) and nothing.eyes.shape == (0, 2, 2)
