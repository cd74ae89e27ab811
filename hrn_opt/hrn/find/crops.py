"""Pieces of a photo, as each network on the way to the landmarks wants them.

Source: P.infer_lmks; `crop` and `img_padding` of face_reconstruction/utils.py; `crop` of face-alignment's utils.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hrn_opt.hrn.exact.opencv_resize import resize_cubic, resize_linear
from hrn_opt.hrn.frames import FAN_CROP_PX, POINTS_CROP_PX

ENLARGED = 1.35  # a face's square over the longer side of its bounds
# PARITY: upstream lays a mean colour in BGR order (103.94, 116.78, 123.68) round an RGB photo; test_crops.py pins it.
BORDER_RGB = (104, 117, 124)
BLACK = (0, 0, 0)
LARGEST_WINDOW_PX = 8192  # what is larger comes from a box that is no face, and would not fit in memory


@dataclass(frozen=True)
class Square:
    """An upright square in photo pixels; may reach past the border."""

    left: float
    top: float
    side: float

    @property
    def window(self) -> Window:
        """The whole pixels it covers."""
        # PARITY: cut towards zero, also left of the photo; test_crops.py pins it.
        return Window(int(self.left), int(self.top), int(self.left + self.side), int(self.top + self.side))


@dataclass(frozen=True)
class Window:
    """Whole pixels of a photo: columns left to right - 1, rows top to bottom - 1; may reach past the border."""

    left: int
    top: int
    right: int
    bottom: int

    def shows(self, size_hw: tuple[int, int]) -> bool:
        """Whether it holds a pixel of a photo of that size, and is not absurdly large.

        Upstream stops with an error at a window beside the photo, or slices from the far side.
        """
        height, width = size_hw
        inside = max(self.left, 0) < min(self.right, width) and max(self.top, 0) < min(self.bottom, height)
        return inside and max(self.right - self.left, self.bottom - self.top) <= LARGEST_WINDOW_PX


def square_around(left: float, top: float, right: float, bottom: float) -> Square:
    """The enlarged square round bounds whose last pixel is at right and bottom."""
    side = max(bottom - top + 1, right - left + 1) * ENLARGED
    return Square((right + left) / 2 - side / 2, (bottom + top) / 2 - side / 2, side)


def cut_square(photo_rgb: np.ndarray, square: Square) -> np.ndarray:
    """(224, 224, 3) uint8, linear; the border's colour outside the photo."""
    return resize_linear(_cut(photo_rgb, square.window, BORDER_RGB), (POINTS_CROP_PX, POINTS_CROP_PX))


def cut_for_points(photo_rgb: np.ndarray, window: Window) -> np.ndarray:
    """(224, 224, 3) uint8, cubic; black outside the photo."""
    return resize_cubic(_cut(photo_rgb, window, BLACK), (POINTS_CROP_PX, POINTS_CROP_PX))


def cut_for_fan(crop_rgb: np.ndarray, window: Window) -> np.ndarray:
    """(256, 256, 3) uint8, linear; black outside the crop."""
    return resize_linear(_cut(crop_rgb, window, BLACK), (FAN_CROP_PX, FAN_CROP_PX))


def _cut(photo: np.ndarray, window: Window, outside: tuple[int, int, int]) -> np.ndarray:
    """(bottom - top, right - left, 3) uint8."""
    height, width = photo.shape[:2]
    left, right = max(window.left, 0), min(window.right, width)
    top, bottom = max(window.top, 0), min(window.bottom, height)
    inside = photo[top:bottom, left:right]
    size = window.bottom - window.top, window.right - window.left
    if inside.shape[:2] == size:
        return inside
    padded = np.empty((*size, 3), np.uint8)
    padded[:] = outside
    padded[top - window.top : bottom - window.top, left - window.left : right - window.left] = inside
    return padded
