"""Possible faces: what the detector says of each, and which of them are the same face."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SAME_FACE_IOU = 0.3
SAME_FACE_COVER = 0.6  # of the smaller box: a box round a whole head and one round its face are one face


@dataclass(frozen=True)
class Candidates:
    """Possible faces.

    boxes: (K, 4) float32 left, top, right, bottom, photo pixels.
    eyes: (K, 2, 2) float32, the photo's-left and the photo's-right eye of the upright face, photo pixels.
    scores: (K,) float32 in 0..1.
    """

    boxes: Tensor
    eyes: Tensor
    scores: Tensor

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def widths(self) -> Tensor:
        """(K,) photo pixels."""
        return self.boxes[:, 2] - self.boxes[:, 0]

    def chosen(self, kept: Tensor | slice) -> Candidates:
        """Those of an index or mask (K,), or of a slice."""
        return Candidates(self.boxes[kept], self.eyes[kept], self.scores[kept])

    def best_first(self) -> Candidates:
        return self.chosen(self.scores.argsort(descending=True))


def concatenate(parts: list[Candidates]) -> Candidates:
    """All candidates of the parts, in order; none of an empty list."""
    if not parts:
        return Candidates(torch.zeros(0, 4), torch.zeros(0, 2, 2), torch.zeros(0))
    return Candidates(*(torch.cat([getattr(part, name) for part in parts]) for name in ("boxes", "eyes", "scores")))


def merge(found: Candidates) -> Candidates:
    """One candidate for each group of overlapping ones: their mean, weighted by score; the best score. Best first."""
    merged = []
    for group in _groups(found):
        weight = (found.scores[group] / found.scores[group].sum())[:, None]
        boxes, eyes = (found.boxes[group] * weight).sum(0), (found.eyes[group] * weight[..., None]).sum(0)
        merged.append(Candidates(boxes[None], eyes[None], found.scores[group[:1]]))
    return concatenate(merged)


def _groups(found: Candidates) -> list[Tensor]:
    """Index groups of overlapping candidates, each best first, best group first."""
    free = found.scores.argsort(descending=True)
    groups = []
    while len(free):
        same = overlap(found.boxes[free[0]], found.boxes[free]) > SAME_FACE_IOU
        same[0] = True
        groups.append(free[same])
        free = free[~same]
    return groups


def overlap(box: Tensor, boxes: Tensor) -> Tensor:
    """(K,) intersection over union of one box (4,) with boxes (K, 4)."""
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    shared = _shared(box, boxes)
    return shared / ((box[2:] - box[:2]).prod() + areas - shared).clamp(min=1e-9)


def same_face(box: Tensor, boxes: Tensor) -> Tensor:
    """(K,) bool: which boxes (K, 4) show what one box (4,) shows, alike or one inside the other."""
    smaller = torch.minimum((boxes[:, 2:] - boxes[:, :2]).prod(1), (box[2:] - box[:2]).prod())
    nested = _shared(box, boxes) > SAME_FACE_COVER * smaller
    return nested | (overlap(box, boxes) > SAME_FACE_IOU)


def _shared(box: Tensor, boxes: Tensor) -> Tensor:
    """(K,) area common to one box (4,) and each of boxes (K, 4)."""
    low, high = torch.maximum(box[:2], boxes[:, :2]), torch.minimum(box[2:], boxes[:, 2:])
    return (high - low).clamp(min=0).prod(1)
