"""Where the detector's anchors lie."""

import torch
from torch import Tensor

GRIDS = ((16, 2), (8, 6))  # (cells a side, anchors a cell): MediaPipe's SSD anchors for strides 16 and 32 × 3 on 256 px


def anchor_centres() -> Tensor:
    """(896, 2) float32 centres (x, y) in 0..1 of the input, in the order of BlazeFace's outputs.

    The anchors have no size of their own: BlazeFace's regressors are pixels of its 256 px input, relative to these.
    """
    centres = []
    for cells, repeats in GRIDS:
        along = (torch.arange(cells) + 0.5) / cells
        y, x = torch.meshgrid(along, along, indexing="ij")
        cell_centres = torch.stack([x, y], dim=-1).reshape(-1, 2)  # (cells², 2), row by row
        centres.append(cell_centres.repeat_interleave(repeats, dim=0))
    return torch.cat(centres)  # (896, 2)
