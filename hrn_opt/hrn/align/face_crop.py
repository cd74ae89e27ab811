"""The photo brought to the network's frame: scale and place from five points, then exact crops.

Source: align_img and POS in the official face_reconstruction/utils.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hrn_opt.hrn.exact.pillow_crop import resize_and_crop
from hrn_opt.hrn.frames import CROP_PX, DETAIL_CROP_PX

FACE_SCALE_PX = 102.0  # of the 224 px crop: what one unit of the standard landmarks becomes

# Of the 68 points: nose tip, the eyes' corners, the mouth's corners.
NOSE_TIP, LEFT_EYE, RIGHT_EYE, MOUTH_CORNERS = 30, (36, 39), (42, 45), (48, 54)


@dataclass(frozen=True)
class Placement:
    """Where the crop of crop_px lies: photo → photo resized to size_wh → crop at (left, top)."""

    size_wh: tuple[int, int]
    left: int
    top: int
    crop_px: int

    def to_photo(self, crop_xy: Tensor, photo_size_hw: tuple[int, int]) -> Tensor:
        """Photo pixels (..., 2) of crop pixels (..., 2), centres at +0.5 in both."""
        height, width = photo_size_hw
        scale = crop_xy.new_tensor([width / self.size_wh[0], height / self.size_wh[1]])
        return (crop_xy + crop_xy.new_tensor([self.left, self.top])) * scale

    def from_photo(self, photo_xy: Tensor, photo_size_hw: tuple[int, int]) -> Tensor:
        """Crop pixels (..., 2) of photo pixels, the way back from `to_photo`."""
        height, width = photo_size_hw
        scale = photo_xy.new_tensor([self.size_wh[0] / width, self.size_wh[1] / height])
        return photo_xy * scale - photo_xy.new_tensor([self.left, self.top])


@dataclass(frozen=True)
class Crops:
    """image: (3, 224, 224) float32 RGB 0..1.

    detail: (3, 512, 512) likewise, the same view.

    rgb: (224, 224, 3) uint8, what `image` was made from.
    placement: of `image`.
    """

    image: Tensor
    detail: Tensor
    rgb: np.ndarray
    placement: Placement


def align(photo_rgb: np.ndarray, landmarks: Tensor, standard: Tensor) -> Crops:
    """Both crops of one face.

    photo_rgb: (height, width, 3) uint8.
    landmarks: (68, 2) photo pixels, y down.
    standard: (5, 3) float64, the standard face's eyes, nose tip and mouth corners.
    """
    placement = place(landmarks, standard, photo_rgb.shape[:2], CROP_PX)
    detail_placement = place(landmarks, standard, photo_rgb.shape[:2], DETAIL_CROP_PX)
    small, large = cut(photo_rgb, placement), cut(photo_rgb, detail_placement)
    return Crops(to_unit(small), to_unit(large), small, placement)


def place(landmarks: Tensor, standard: Tensor, photo_size_hw: tuple[int, int], crop_px: int) -> Placement:
    """Scale and position by least squares of the five points against the standard face."""
    height, width = photo_size_hw
    points = np.asarray(landmarks, np.float64).copy()
    points[:, 1] = height - 1 - points[:, 1]  # y up
    shift, points_scale = _fit(five_points(points), np.asarray(standard, np.float64))
    scale = FACE_SCALE_PX * crop_px / CROP_PX / points_scale
    # PARITY: sizes and offsets are cut to whole pixels, towards zero; test_face_crop.py pins it.
    resized_wh = int(width * scale), int(height * scale)
    left = int(resized_wh[0] / 2 - crop_px / 2 + (shift[0] - width / 2) * scale)
    top = int(resized_wh[1] / 2 - crop_px / 2 + (height / 2 - shift[1]) * scale)
    return Placement(resized_wh, left, top, crop_px)


def cut(photo_rgb: np.ndarray, placement: Placement) -> np.ndarray:
    """(crop_px, crop_px, 3) uint8."""
    return resize_and_crop(photo_rgb, placement.size_wh, placement.left, placement.top, placement.crop_px)


def to_unit(values: np.ndarray) -> Tensor:
    """(C, H, W) float32 in 0..1 of (H, W, C) uint8."""
    return torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1))).float() / 255


def five_points(points: np.ndarray) -> np.ndarray:
    """(5, D) of the 68 points (68, D): left eye, right eye, nose tip, left and right mouth corner."""
    eyes = [points[list(eye)].mean(0) for eye in (LEFT_EYE, RIGHT_EYE)]
    return np.stack([*eyes, points[NOSE_TIP], *points[list(MOUTH_CORNERS)]])


def _fit(points: np.ndarray, standard: np.ndarray) -> tuple[np.ndarray, float]:
    """Shift (2,) and scale of the affine camera that takes the standard points (5, 3) to points (5, 2).

    PARITY: x and y are solved as one system of ten equations though they are independent. Two systems of five give
    the same up to rounding, but the crop's offset is then cut to whole pixels, and rounding can decide it;
    test_face_crop.py pins it.
    """
    system = np.zeros((2 * len(standard), 8))
    system[0::2, 0:3] = system[1::2, 4:7] = standard
    system[0::2, 3] = system[1::2, 7] = 1
    solution = np.linalg.lstsq(system, points.reshape(-1, 1), rcond=None)[0][:, 0]  # (8,)
    scale = (np.linalg.norm(solution[0:3]) + np.linalg.norm(solution[4:7])) / 2
    return solution[[3, 7]], float(scale)
