"""How many bits a stored number really has: grey pictures of 16 and 32 bits, and floating-point ones, to 8 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrn_opt.errors import PhotoUnreadable

_FULL_16 = 65535
_USUAL_BITS = (8, 10, 12, 14)  # of cameras and scanners whose numbers lie at the low end of 16 bits


def to_8_bit(values: NDArray[Any], mode: str, label: str, highest: int | None = None) -> NDArray[np.uint8]:
    """uint8 of the same shape, scaled over its full range instead of clipped.

    mode: Pillow's, "I;16…", "I" or "F".
    highest: what the file itself gives as the highest value, which white is.
    """
    if mode == "F":
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise PhotoUnreadable(
                f"{label} holds floating-point values outside 0..1; save it with 8 bits a channel.",
                photo=label,
                reason="range",
            )
        return _in_8_bits(values * 255)
    white = white_of(values, mode, highest)
    if values.dtype == np.uint16:
        levels: NDArray[np.uint8] = levels_of_16_bits(white)[values]
        return levels
    return _in_8_bits(np.clip(values, 0, white) * (255 / white))


def _in_8_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    whole: NDArray[np.uint8] = (values + 0.5).astype(np.uint8)
    return whole


def levels_of_16_bits(white: int) -> NDArray[np.uint8]:
    """(65536,) uint8: the level of each value. Looked up in it, a picture takes no memory but that of its levels."""
    return (np.clip(np.arange(_FULL_16 + 1), 0, white) * (255 / white) + 0.5).astype(np.uint8)


def to_16_bit(values: NDArray[Any], highest: int | None = None) -> NDArray[np.uint16]:
    """uint16 of the same shape, scaled over its full range."""
    white = white_of(values, "I;16", highest)
    whole: NDArray[np.uint16] = (np.clip(values, 0, white) * (_FULL_16 / white) + 0.5).astype(np.uint16)
    return whole


def white_of(values: NDArray[Any], mode: str, highest: int | None) -> int:
    """What value white is."""
    largest = int(values.max())
    if highest is not None and 0 < largest <= highest:
        return highest
    if mode == "I":  # 32-bit containers mostly hold fewer bits: take the least of the usual depths that fits
        return next(white for white in (255, _FULL_16, 2**31 - 1, 2**32 - 1) if largest <= white)
    return _white_of_16_bits(largest)


def _white_of_16_bits(largest: int) -> int:
    """What white is in a 16-bit file that does not say it.

    A file of 12 bits and a very dark one of 16 look alike, except at their top: a picture is exposed or scaled so that
    its lightest point is white or nearly, while the lightest point of a dark one lies anywhere. So a lesser depth is
    taken only where the largest value lies in the top 256th of it, where a dark picture's lies once in 100 times.
    Otherwise the file is taken at its word: 16 bits, and a dark picture stays dark.
    """
    return next((2**bits - 1 for bits in _USUAL_BITS if largest >> (bits - 8) == 255), _FULL_16)


def highest_of_significant_bits(values: NDArray[np.uint16], bits: int) -> int | None:
    """White of a 16-bit PNG whose sBIT chunk speaks of fewer bits; None where they fill the 16 as the standard asks.

    The standard has them scaled up: moved to the high end, the low bits zero or a copy of the high ones. Many writers
    leave them at the low end instead.
    """
    if not 0 < bits < 16 or int(values.max()) >= 2**bits:
        return None
    low = values & (2 ** (16 - bits) - 1)
    scaled = (low == 0) | (low == values >> bits)
    return None if scaled.all() else 2**bits - 1
