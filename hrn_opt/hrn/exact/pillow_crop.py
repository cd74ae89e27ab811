"""Pillow's bicubic resize followed by a crop, bit for bit, at little more than the cost of the crop.

The published pipeline enlarges or shrinks the whole photo and then cuts 224 or 512 pixels out of it. Pillow's own
`resize(box=)` rounds the box to float32 and so gives other pixels. Where the whole is much larger than the crop, its
arithmetic (libImaging/Resample.c: taps of 22 fractional bits, rows first, 8 bits in between) is therefore run here on
the wanted rows and columns only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PRECISION_BITS = 22
BICUBIC_SUPPORT = 2.0
BICUBIC_A = -0.5
CHEAP_AREA = 3  # up to this many times the crop's area, resizing the whole by Pillow's own code is faster


@dataclass(frozen=True)
class _Taps:
    """first: (N,) int64 source index of each output's first tap.
    weights: (N, K) int64, 22 fractional bits.
    """

    first: np.ndarray
    weights: np.ndarray


def resize_and_crop(rgb: np.ndarray, size_wh: tuple[int, int], left: int, top: int, crop_px: int) -> np.ndarray:
    """Equal to Image.fromarray(rgb).resize(size_wh, BICUBIC).crop((left, top, left + crop_px, top + crop_px)).

    rgb: (height, width, 3) uint8. Returns (crop_px, crop_px, 3) uint8, black outside the resized picture.
    """
    if size_wh[0] * size_wh[1] <= CHEAP_AREA * crop_px**2:
        whole = Image.fromarray(rgb).resize(size_wh, Image.Resampling.BICUBIC)
        return np.asarray(whole.crop((left, top, left + crop_px, top + crop_px)))
    return _crop_alone(rgb, size_wh, left, top, crop_px)


def _crop_alone(rgb: np.ndarray, size_wh: tuple[int, int], left: int, top: int, crop_px: int) -> np.ndarray:
    out = np.zeros((crop_px, crop_px, 3), np.uint8)
    columns = np.arange(max(left, 0), min(left + crop_px, size_wh[0]))
    rows = np.arange(max(top, 0), min(top + crop_px, size_wh[1]))
    if not len(columns) or not len(rows):
        return out
    across = _taps(rgb.shape[1], size_wh[0], columns)
    down = _taps(rgb.shape[0], size_wh[1], rows)
    first_row, last_row = int(down.first.min()), int((down.first + down.weights.shape[1]).max())
    band = rgb[first_row : min(last_row, rgb.shape[0])]
    narrow = _apply(band.transpose(1, 0, 2), across).transpose(1, 0, 2)  # (rows, columns, 3)
    small = _apply(narrow, _Taps(down.first - first_row, down.weights))
    out[rows[0] - top : rows[-1] - top + 1, columns[0] - left : columns[-1] - left + 1] = small
    return out


def _taps(in_size: int, out_size: int, outputs: np.ndarray) -> _Taps:
    """Source taps of some output positions along one axis."""
    scale = in_size / out_size
    filter_scale = max(scale, 1.0)
    support = BICUBIC_SUPPORT * filter_scale
    centre = (outputs + 0.5) * scale
    first = np.maximum((centre - support + 0.5).astype(np.int64), 0)
    last = np.minimum((centre + support + 0.5).astype(np.int64), in_size)
    offset = np.arange(int((last - first).max()))
    distance = (offset + first[:, None] - centre[:, None] + 0.5) * (1.0 / filter_scale)  # (N, K)
    weights = np.where(offset < (last - first)[:, None], _bicubic(distance), 0.0)
    total = np.zeros(len(outputs))
    for tap in range(weights.shape[1]):  # one after another, as Pillow sums: the last bit counts
        total += weights[:, tap]
    weights *= np.where(total == 0, 1.0, 1.0 / total)[:, None]
    fixed = weights * (1 << PRECISION_BITS)
    return _Taps(first, np.where(fixed < 0, fixed - 0.5, fixed + 0.5).astype(np.int64))


def _bicubic(x: np.ndarray) -> np.ndarray:
    x = np.abs(x)
    near = ((BICUBIC_A + 2.0) * x - (BICUBIC_A + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * BICUBIC_A
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


def _apply(lines: np.ndarray, taps: _Taps) -> np.ndarray:
    """(N, M, 3) uint8: each output line a weighted sum of lines (L, M, 3) uint8."""
    total = np.full((len(taps.first), *lines.shape[1:]), 1 << (PRECISION_BITS - 1), np.int32)
    last_line = len(lines) - 1
    for tap in range(taps.weights.shape[1]):
        source = lines[np.minimum(taps.first + tap, last_line)].astype(np.int32)
        total += source * taps.weights[:, tap, None, None].astype(np.int32)
    levels: NDArray[np.uint8] = np.clip(total >> PRECISION_BITS, 0, 255).astype(np.uint8)
    return levels
