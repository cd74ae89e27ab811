"""Stand-ins for detectors, and for what they answer."""

from __future__ import annotations

import torch
from torch import Tensor

from hrn_opt.hrn.find import landmarks
from hrn_opt.hrn.networks.retinaface import RawFaces

ANCHOR_COUNT = 2 * (64**2 + 32**2 + 16**2)


MIDDLE_ANCHOR = 2 * (64**2 + 32**2) + 2 * (8 * 16 + 8)  # the coarsest grid's 256 px anchor at (272, 272)


# Boxes


def raw_faces(*faces: tuple[int, float]) -> RawFaces:
    """No face anywhere but at these anchors, with these margins between face and no face; boxes are the anchors'."""
    logits = torch.zeros(1, ANCHOR_COUNT, 2)
    logits[..., 0] = 9.0
    for anchor, margin in faces:
        logits[0, anchor] = torch.tensor([0.0, margin])
    return RawFaces(logits, torch.zeros(1, ANCHOR_COUNT, 4))


class FakeS3FD:
    """Sees a 128 px face at (96, 96) of every crop but those whose middle is black."""

    def __call__(self, image: Tensor) -> list[Tensor]:
        grids = [torch.zeros(len(image), 6, 224 >> level, 224 >> level) for level in range(2, 8)]
        for grid in grids:
            grid[:, 0] = 9.0
        black = (image[:, 0, 112, 112] + landmarks.MEAN_S3FD_BGR[0]).abs() < 1
        grids[3][:, :2, 2, 2] = torch.where(black[:, None], torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0]))
        return grids


class FakeFan(torch.nn.Module):
    def forward(self, image: Tensor) -> Tensor:
        heatmaps = torch.zeros(len(image), 68, 64, 64)
        heatmaps[:, :, 32, 16] = 1.0
        return heatmaps
