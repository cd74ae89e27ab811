"""Pictures in another size, as OpenCV gives them to the published pipeline's networks.

OpenCV's resize never filters: 2 or 4 taps around each sample at any scale, so a picture made much smaller aliases,
and the networks expect that. Its linear weights for 8-bit pictures are rounded to 11 bits (imgproc/src/resize.cpp).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

_WEIGHT_ONE = 2048  # INTER_RESIZE_COEF_SCALE: 8-bit pictures are weighted in 1/2048


@dataclass(frozen=True)
class LinearTaps:
    """The two source positions of each sample of one axis.

    first, second: (n,) int64.
    share: (n,) float32 in 0..1, the second's.
    """

    first: np.ndarray
    second: np.ndarray
    share: np.ndarray

    @property
    def whole_weights(self) -> tuple[np.ndarray, np.ndarray]:
        """The first's and the second's weight, (n,) int32 in 1/2048."""
        first, second = (np.rint(part * _WEIGHT_ONE).astype(np.int32) for part in (1 - self.share, self.share))
        return first, second


def linear_taps(in_size: int, out_size: int) -> LinearTaps:
    """Taps of cv2.INTER_LINEAR: pixel centres at (i + 0.5), the edge repeated."""
    scale = 1.0 / (out_size / in_size)  # OpenCV's order of rounding
    position = ((np.arange(out_size) + 0.5) * scale - 0.5).astype(np.float32)
    below = np.floor(position)
    first = below.astype(np.int64)
    last = in_size - 1
    return LinearTaps(np.clip(first, 0, last), np.clip(first + 1, 0, last), position - below)


def resize_linear(picture: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """(h, w, C) uint8 from (H, W, C) uint8, equal to cv2.resize with INTER_LINEAR to the last bit.

    In numpy on one thread: a third of torch's time at these sizes, whose many short steps each wake all threads.
    """
    height, width, channels = picture.shape
    if (height, width) == tuple(size_hw):
        return picture
    if (height, width) == (2 * size_hw[0], 2 * size_hw[1]):
        return _halved(picture)
    rows, columns = linear_taps(height, size_hw[0]), linear_taps(width, size_hw[1])
    needed, place = np.unique(np.concatenate([rows.first, rows.second]), return_inverse=True)
    lines = _blended_columns(picture[needed].reshape(len(needed), -1), columns, channels)  # (n, w·C) int32
    upper, lower = (weight[:, None] for weight in rows.whole_weights)
    # Each product is cut to a whole number before the two are added: OpenCV works in 16-bit registers here.
    above, below = lines[place[: size_hw[0]]], lines[place[size_hw[0] :]]
    above *= upper
    above >>= 16
    below *= lower
    below >>= 16
    above += below
    above += 2
    above >>= 2
    return above.astype(np.uint8).reshape(*size_hw, channels)


def _blended_columns(lines: np.ndarray, columns: LinearTaps, channels: int) -> np.ndarray:
    """(n, w·C) int32 in 1/128 from rows of pixels (n, W·C) uint8."""
    channel = np.arange(channels)
    first, second = ((at[:, None] * channels + channel).ravel() for at in (columns.first, columns.second))
    left, right = (weight.repeat(channels) for weight in columns.whole_weights)
    blended: NDArray[np.int32] = lines[:, first] * left
    blended += lines[:, second] * right
    blended >>= 4
    return blended


def _halved(picture: np.ndarray) -> np.ndarray:
    """Means of 2 × 2 pixels, half up: at exactly half the size OpenCV turns linear into area."""
    wide = picture.astype(np.uint16)
    return (wide[::2, ::2] + wide[1::2, ::2] + wide[::2, 1::2] + wide[1::2, 1::2] + 2 >> 2).astype(np.uint8)


def resize_cubic(picture: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """(h, w, C) uint8 from (H, W, C) uint8, as cv2.resize with INTER_CUBIC.

    Equal to OpenCV's x86 build (which leaves this to Intel's IPP) but for 1 sample in 500 to 10,000, one grey level;
    its other builds round the weights to 11 bits and differ from both in 1 sample of 25, one grey level.
    """
    if picture.shape[:2] == tuple(size_hw):
        return picture
    source = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float()  # (1, C, H, W)
    resized = F.interpolate(source, tuple(size_hw), mode="bicubic", align_corners=False)  # the same a = -0.75
    return resized.round_().clamp_(0, 255)[0].permute(1, 2, 0).to(torch.uint8).contiguous().numpy()
