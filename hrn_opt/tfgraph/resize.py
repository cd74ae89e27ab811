"""TensorFlow's resizing in torch: its three ways of placing source pixels, of which torch has two.

Tensors keep TensorFlow's axes (batch, height, width, channels).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from hrn_opt.tfgraph.graphdef import Attributes


def bilinear(attributes: Attributes, x: Tensor, size_hw: Tensor) -> Tensor:
    size = _target_size(size_hw)
    planes = x.permute(0, 3, 1, 2)
    if not planes.is_floating_point():
        planes = planes.float()
    corners, centres = bool(attributes.get("align_corners")), bool(attributes.get("half_pixel_centers"))
    if corners or centres:
        return F.interpolate(planes, size, mode="bilinear", align_corners=corners).permute(0, 2, 3, 1)
    rows = _blend(planes, 2, size[0])  # (B, C, h, W)
    return _blend(rows, 3, size[1]).permute(0, 2, 3, 1)  # (B, h, w, C)


def bilinear_sketch(attributes: Attributes, x: Tensor, size_hw: Tensor) -> Tensor:
    batch, _, _, channels = x.shape
    return torch.empty((batch, *_target_size(size_hw), channels), device="meta")


def _blend(planes: Tensor, axis: int, size: int) -> Tensor:
    """TensorFlow's first bilinear rule along one axis: source = target * scale, which torch does not have."""
    source_size = planes.shape[axis]
    source = torch.arange(size, dtype=torch.float32) * torch.tensor(source_size / size, dtype=torch.float32)
    low = source.floor().long().clamp(max=source_size - 1)
    high = (low + 1).clamp(max=source_size - 1)
    shape = [1, 1, 1, 1]
    shape[axis] = size
    share = (source - low).reshape(shape).to(planes.device, planes.dtype)
    below = planes.index_select(axis, low.to(planes.device))
    return torch.lerp(below, planes.index_select(axis, high.to(planes.device)), share.expand_as(below))


def nearest(attributes: Attributes, x: Tensor, size_hw: Tensor) -> Tensor:
    picked = x
    for axis, size in zip((1, 2), _target_size(size_hw), strict=True):
        picked = picked.index_select(axis, _source_rows(attributes, x.shape[axis], size).to(x.device))
    return picked


def _source_rows(attributes: Attributes, source_size: int, size: int) -> Tensor:
    """(size,) int64: which row each target row takes; computed in float32 as TensorFlow does."""
    steps = torch.arange(size, dtype=torch.float32)
    if attributes.get("align_corners") and size > 1:
        scale = torch.tensor((source_size - 1) / (size - 1), dtype=torch.float32)
        source = (steps * scale + 0.5).floor()  # halves go up, where torch.round would take the even one
    else:
        scale = torch.tensor(source_size / size, dtype=torch.float32)
        half = 0.5 if attributes.get("half_pixel_centers") else 0.0
        source = ((steps + half) * scale).floor()
    return source.long().clamp(0, source_size - 1)


def _target_size(size_hw: Tensor) -> tuple[int, int]:
    height, width = size_hw.tolist()
    if min(height, width) < 1:
        raise ValueError(f"resize to {height}×{width}")
    return height, width
