"""A slow renderer in float64, written apart from the package: what the fit's sparse map is held against."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Seen:
    """triangle: (H, W) int64, -1 where nothing.
    weights: (H, W, 3) float64 of its corners, on the triangle itself.
    """

    triangle: np.ndarray
    weights: np.ndarray


def render_reference(corners: np.ndarray, triangles: np.ndarray, size: int) -> Seen:
    """What each pixel centre sees, triangle by triangle; the nearest wins, then the lowest number.

    corners: (N, 4) of pixel x, pixel y, depth -1..1 and distance from the camera.
    triangles: (F, 3).
    """
    nearest = np.full((size, size), np.inf)
    triangle_map = np.full((size, size), -1)
    weights_map = np.zeros((size, size, 3))
    for number, (a, b, c) in enumerate(corners[triangles].astype(np.float64)):
        area = _cross(b[:2] - a[:2], c[:2] - a[:2])
        low = np.clip(np.floor(np.min([a, b, c], 0)[:2] - 1), 0, size).astype(int)
        high = np.clip(np.ceil(np.max([a, b, c], 0)[:2] + 1), 0, size).astype(int)
        if area == 0 or (low >= high).any():
            continue
        box = np.s_[low[1] : high[1], low[0] : high[0]]
        point = np.stack(np.meshgrid(np.arange(low[0], high[0]), np.arange(low[1], high[1])), -1) + 0.5  # (h, w, 2)
        opposite = [_cross(end[:2] - point, start[:2] - point) for end, start in ((b, c), (c, a), (a, b))]
        share = np.stack(opposite, -1) / area
        depth = share @ [a[2], b[2], c[2]]
        wins = (share >= 0).all(-1) & (np.abs(depth) <= 1) & (depth < nearest[box])
        true_share = share / [a[3], b[3], c[3]]
        true_share /= true_share.sum(-1, keepdims=True)
        nearest[box][wins], triangle_map[box][wins], weights_map[box][wins] = depth[wins], number, true_share[wins]
    return Seen(triangle_map, weights_map)


def _cross(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return first[..., 0] * second[..., 1] - first[..., 1] * second[..., 0]


def sample_wrapped(texture: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """(P, C) bilinear values of texture (H, W, C) at u, v (P,) in 0..1, v downwards; the texture repeats itself."""
    height, width, _ = texture.shape
    x, y = u * width - 0.5, v * height - 0.5
    total = 0
    for row, row_share in ((y.floor(), 1 - (y - y.floor())), (y.floor() + 1, y - y.floor())):
        for column, column_share in ((x.floor(), 1 - (x - x.floor())), (x.floor() + 1, x - x.floor())):
            total = total + texture[row.long() % height, column.long() % width] * (row_share * column_share)[:, None]
    return torch.as_tensor(total)
