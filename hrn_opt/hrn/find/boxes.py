"""Which parts of a photo are faces: RetinaFace over the whole picture at 512 px.

Source: skin_retouching/retinaface/{predict_single,box_utils,prior_box}.py of the published code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hrn_opt.hrn.exact.opencv_resize import resize_linear
from hrn_opt.hrn.networks.retinaface import STRIDES, RawFaces, RetinaFace
from hrn_opt.types import Box

INPUT_PX = 512
MIN_SCORE = 0.7
SAME_FACE_IOU = 0.4
ANCHOR_SIDES_PX = ((16, 32), (64, 128), (256, 512))  # of each grid's two anchors
PICTURES_AT_ONCE = 4  # through the network: 55 MB each in float32

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
# SSD's box coding: centres in tenths of the anchor, sizes as exponents in fifths.
_CENTRE_VARIANCE, _SIZE_VARIANCE = 0.1, 0.2


@dataclass(frozen=True)
class Detection:
    """A face's box in whole pixels of the picture; it may reach past the border.

    score: 0..1.
    """

    box: Box
    score: float


def detect(network: RetinaFace, pictures: Sequence[np.ndarray]) -> list[tuple[Detection, ...]]:
    """The faces of each picture, best score first; none where there are none.

    pictures: (H, W, 3) uint8, any sizes.
    """
    found = []
    for start in range(0, len(pictures), PICTURES_AT_ONCE):
        some = pictures[start : start + PICTURES_AT_ONCE]
        raw = network(torch.stack([to_input(picture) for picture in some]))
        for index, picture in enumerate(some):
            own = RawFaces(raw.logits[index : index + 1].cpu(), raw.offsets[index : index + 1].cpu())
            found.append(decode(own, picture.shape[:2]))
    return found


def to_input(picture: np.ndarray) -> Tensor:
    """(3, 512, 512) float32: the picture with its longer side at 512 px, normalised, in the middle of zeros."""
    fitted = resize_linear(picture, fitted_size(picture.shape[:2]))
    mean = torch.tensor(IMAGENET_MEAN).view(3, 1, 1) * 255
    deviation = torch.tensor(IMAGENET_DEVIATION).view(3, 1, 1) * 255
    top, left = _padding(fitted.shape[:2])
    image = torch.zeros(3, INPUT_PX, INPUT_PX)
    middle = image[:, top : top + fitted.shape[0], left : left + fitted.shape[1]]
    middle.copy_(torch.from_numpy(np.ascontiguousarray(fitted)).permute(2, 0, 1)).sub_(mean).div_(deviation)
    return image


def fitted_size(size_hw: tuple[int, int]) -> tuple[int, int]:
    """The picture's size once its longer side is 512 px."""
    scale = INPUT_PX / max(size_hw)
    return max(1, round(size_hw[0] * scale)), max(1, round(size_hw[1] * scale))


def _padding(fitted_hw: tuple[int, int]) -> tuple[int, int]:
    return (INPUT_PX - fitted_hw[0]) // 2, (INPUT_PX - fitted_hw[1]) // 2


def decode(raw: RawFaces, size_hw: tuple[int, int]) -> tuple[Detection, ...]:
    """Faces of one picture of that size, best first, from the network's answer for it (B = 1)."""
    scores = raw.logits[0].softmax(-1)[:, 1]  # (N,)
    likely = (scores > MIN_SCORE).nonzero().squeeze(1)
    likely = likely[scores[likely].argsort(descending=True, stable=True)]
    boxes = _decoded(raw.offsets[0, likely], anchors()[likely])
    likely_scores = scores[likely]
    kept = suppress(boxes, SAME_FACE_IOU)
    top, left = _padding(fitted_size(size_hw))
    shift = np.array([left, top, left, top])
    # PARITY: boxes are cut to whole pixels at 512 px, and again in the picture; test_boxes.py pins it.
    whole = boxes[kept].int().numpy() - shift
    whole = (whole * (max(size_hw) / INPUT_PX)).astype(int)  # (K, 4)
    detections = [
        Detection(Box(*map(float, box)), float(score)) for box, score in zip(whole, likely_scores[kept], strict=True)
    ]
    return tuple(detection for detection in detections if _in_picture(detection.box, size_hw))


def anchors() -> Tensor:
    """(N, 4) float32 centre x and y, width and height, in 0..1 of the input; in the order of RawFaces."""
    parts = []
    for stride, sides in zip(STRIDES, ANCHOR_SIDES_PX, strict=True):
        along = (torch.arange(INPUT_PX // stride) + 0.5) * stride / INPUT_PX
        y, x = torch.meshgrid(along, along, indexing="ij")
        centres = torch.stack([x, y], -1).view(-1, 1, 2).expand(-1, len(sides), 2)
        sizes = torch.tensor(sides).view(1, -1, 1).expand_as(centres) / INPUT_PX
        parts.append(torch.cat([centres, sizes], -1).flatten(0, 1))
    return torch.cat(parts)


def _decoded(offsets: Tensor, priors: Tensor) -> Tensor:
    """(K, 4) left, top, right, bottom in pixels of the input."""
    centre = priors[:, :2] + offsets[:, :2] * _CENTRE_VARIANCE * priors[:, 2:]
    size = priors[:, 2:] * torch.exp(offsets[:, 2:] * _SIZE_VARIANCE)
    low = centre - size / 2
    return torch.cat([low, size + low], 1) * INPUT_PX


def suppress(boxes: Tensor, most_iou: float) -> Tensor:
    """(K,) int64: which of (N, 4) boxes, best first, overlap no better one by more than `most_iou`."""
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    free, kept = torch.arange(len(boxes)), []
    while len(free):
        best, others = free[0], free[1:]
        kept.append(int(best))
        low = torch.maximum(boxes[best, :2], boxes[others, :2])
        high = torch.minimum(boxes[best, 2:], boxes[others, 2:])
        shared = (high - low).clamp(min=0).prod(1)
        # A comparison with NaN (two boxes without area) keeps the box, as upstream's does.
        free = others[~(shared / (areas[best] + areas[others] - shared) > most_iou)]
    return torch.tensor(kept, dtype=torch.int64)


def _in_picture(box: Box, size_hw: tuple[int, int]) -> bool:
    """Whether at least two pixels a side are left of the box once it is cut to the picture."""
    height, width = size_hw
    left, top = min(max(box.left, 0), width - 1), min(max(box.top, 0), height - 1)
    right, bottom = min(max(box.right, left + 1), width - 1), min(max(box.bottom, top + 1), height - 1)
    return left < right and top < bottom
