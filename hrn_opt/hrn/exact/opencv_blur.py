"""OpenCV's Gaussian blur of 8-bit masks, worked out at chosen pixels only and equal to the last bit."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

_WEIGHT_SUM = 256  # 8-bit blurs weigh in 1/256 (imgproc/src/fixedpoint.inl.hpp, smooth.dispatch.cpp)


def blurred_at(mask: np.ndarray, size: int, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """(R, C) uint8: what cv2.GaussianBlur(mask, (size, size), 0) holds at rows × columns.

    mask: (H, W) bool, True standing for 255.
    size: odd, 9 or more (below, OpenCV has kernels of its own). Every sum stays below 2²⁴, so float32 is exact.
    """
    height, width = mask.shape
    down, across = _weights(rows, size, height), _weights(columns, size, width)
    sums = down @ (torch.from_numpy(mask).float() @ across.T * 255)  # (R, C) in 1/65536
    return sums.add_(_WEIGHT_SUM**2 // 2).div_(_WEIGHT_SUM**2).to(torch.uint8).numpy()  # half up


def _weights(places: np.ndarray, size: int, length: int) -> Tensor:
    """(n, length) float32: the share of each pixel of a line in the blurred pixel at each place."""
    taps = places[:, None] + np.arange(size) - size // 2
    taps = np.abs(taps)
    taps = np.where(taps >= length, 2 * (length - 1) - taps, taps)  # mirrored at the edge pixel's centre
    cells = np.arange(len(places))[:, None] * length + np.clip(taps, 0, length - 1)
    shares = np.broadcast_to(_kernel(size), taps.shape)
    summed = np.bincount(cells.ravel(), shares.ravel(), len(places) * length)
    return torch.from_numpy(summed.reshape(len(places), length)).float()


@lru_cache(maxsize=8)
def _kernel(size: int) -> np.ndarray:
    """(size,) whole weights that sum to 256; what rounding takes from one tap goes on to the next."""
    sigma = 0.3 * ((size - 1) * 0.5 - 1) + 0.8  # cv2.getGaussianKernel's choice for sigma 0
    distance = np.arange(size) - (size - 1) / 2
    exact = np.exp(-(distance**2) / (2 * sigma**2))
    exact *= _WEIGHT_SUM / exact.sum()
    weights, carried = np.zeros(size), 0.0
    for tap in range(size // 2):
        weights[tap] = weights[-1 - tap] = np.rint(exact[tap] + carried)
        carried += exact[tap] - weights[tap]
    weights[size // 2] = _WEIGHT_SUM - weights.sum()
    return weights
