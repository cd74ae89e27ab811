"""From boxes to points: 106 of them twice, then 68 by S3FD and 3D-FAN on a crop that five of the 106 choose.

Source: P.infer_lmks and P.prepare_data; BBRegression and align_for_lm of face_reconstruction/utils.py; face-alignment
1.4 (detection/sfd, utils.py), the last to read the published 3DFAN4 archive. Batches are faces throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hrn_opt.hrn.find.crops import (
    Square,
    Window,
    cut_for_fan,
    cut_square,
    square_around,
)
from hrn_opt.hrn.frames import FAN_CROP_PX, POINTS_CROP_PX
from hrn_opt.hrn.networks.landmarks106 import Landmarks106
from hrn_opt.hrn.networks.s3fd import S3FD

# PARITY: the mean is in BGR order, the crop in RGB; test_landmarks.py pins it.
MEAN_106 = (103.94, 116.78, 123.68)
MEAN_S3FD_BGR = (104.0, 117.0, 123.0)
FIVE_OF_106 = (74, 83, 54, 84, 90)  # the eyes' middles, the nose tip, the mouth's corners
MIN_S3FD_SCORE = 0.5
FINEST_S3FD_STRIDE = 4  # px; doubles from grid to grid
S3FD_ANCHOR = 4  # the anchor's side over the stride
FAN_REFERENCE_PX = 195.0  # the sum of a box's sides, over this, is FAN's scale
FAN_UNIT_PX = 200.0  # what FAN's crop spans at scale 1
FAN_RAISED = 0.12  # of the box's height: how far above its middle FAN looks
HEATMAP_PX = 64
POINT_COUNT = 68


@dataclass(frozen=True)
class BoxRegressor:
    """BBRegressorParam_r.mat: five points → where the 68-point networks should look.

    w1: (hidden, 10).
    b1: (hidden, 1).
    w2: (3, hidden).
    b2: (3, 1). All float64.
    """

    w1: np.ndarray
    b1: np.ndarray
    w2: np.ndarray
    b2: np.ndarray

    def __post_init__(self) -> None:
        hidden = self.w1.shape[0]
        for name, shape in (("w1", (hidden, 10)), ("b1", (hidden, 1)), ("w2", (3, hidden)), ("b2", (3, 1))):
            if getattr(self, name).shape != shape:
                raise ValueError(f"BoxRegressor.{name} must be {shape}, got {getattr(self, name).shape}")


@dataclass(frozen=True)
class PointsView:
    """What becomes the 224 px crop for the 68 points.

    window: of the photo; empty when no crop can be had.
    side: px of the photo that 224 px of the crop stand for.
    """

    window: Window
    side: int

    def to_photo(self, crop_xy: NDArray[np.float64]) -> NDArray[np.float64]:
        """Photo pixels (..., 2) of crop pixels."""
        points: NDArray[np.float64] = crop_xy / (POINTS_CROP_PX / self.side) + np.array(
            [self.window.left, self.window.top]
        )
        return points


@dataclass(frozen=True)
class FanView:
    """What 3D-FAN sees of a 224 px crop: FAN_UNIT_PX · scale pixels a side round the centre."""

    centre_xy: tuple[float, float]
    scale: float

    def matrix(self, size: int) -> NDArray[np.float64]:
        """(3, 3) float64: crop pixels → a picture of `size` pixels a side, counting from 1."""
        span = FAN_UNIT_PX * self.scale
        shift_x, shift_y = (size * (-middle / span + 0.5) for middle in self.centre_xy)
        return np.array([[size / span, 0, shift_x], [0, size / span, shift_y], [0, 0, 1]])

    @property
    def window(self) -> Window:
        # In float32 and cut towards zero, as upstream: one pixel here moves every landmark.
        back = torch.inverse(torch.from_numpy(self.matrix(FAN_CROP_PX)).float())
        corners = torch.tensor([[1.0, 1.0, 1.0], [FAN_CROP_PX, FAN_CROP_PX, 1.0]])
        first, last = (torch.matmul(back, corner)[:2].int().tolist() for corner in corners)
        return Window(*first, *last)

    def points_from(self, heatmap_places: NDArray[np.float64]) -> NDArray[np.float64]:
        """(K, 2) float64, whole crop pixels, of (K, 2) places in its heatmaps."""
        back = np.linalg.pinv(self.matrix(HEATMAP_PX))
        # PARITY: landmarks are cut to whole pixels of the crop; test_faces.py pins it.
        places: NDArray[np.float64] = np.trunc(heatmap_places @ back[:2, :2].T + back[:2, 2])
        return places


def points_106(network: Landmarks106, photos: Sequence[np.ndarray], squares: Sequence[Square]) -> NDArray[np.float64]:
    """(B, 106, 2) float64 photo pixels, one set for each square and its photo."""
    crops = np.stack([cut_square(*pair) for pair in zip(photos, squares, strict=True)])  # (B, 224, 224, 3)
    image = torch.from_numpy(crops).permute(0, 3, 1, 2).float()
    image = (image - torch.tensor(MEAN_106).view(3, 1, 1)) / 255
    places = (network(image) * POINTS_CROP_PX).cpu().numpy()  # (B, 106, 2), crop pixels
    scale = np.array([square.side / POINTS_CROP_PX for square in squares])
    origin = np.array([(square.left, square.top) for square in squares])
    points: NDArray[np.float64] = places * scale[:, None, None] + origin[:, None]
    return points


def square_around_points(points: np.ndarray) -> Square:
    """The enlarged square round (K, 2) points."""
    return square_around(*points.min(0).tolist(), *points.max(0).tolist())


def view_for_points(regressor: BoxRegressor, points: np.ndarray, photo_size_hw: tuple[int, int]) -> PointsView:
    """Where the 68-point networks look, from 106 points (106, 2) float64 photo pixels; nothing where they cannot."""
    height, width = photo_size_hw
    box = _regressed(regressor, points[list(FIVE_OF_106)])
    if not np.isfinite(box).all():
        return PointsView(Window(0, 0, 0, 0), 1)
    left, top, side = np.round(box).astype(int).tolist()
    if left < -(width // 2) or top < -(height // 2) or side < 1:
        return PointsView(Window(0, 0, 0, 0), 1)
    # PARITY: upstream pads the photo by half its size and slices, so the far sides may come short (and the crop is
    # then stretched, though its scale is not); test_landmarks.py pins it.
    right, bottom = min(left + side, 2 * width - width // 2), min(top + side, 2 * height - height // 2)
    return PointsView(Window(left, top, right, bottom), side)


def _regressed(regressor: BoxRegressor, five: np.ndarray) -> np.ndarray:
    """(3,) float64 left, top and side of a box, photo pixels; NaN when the five points coincide."""
    middle = five.mean(0)
    centred = five - middle
    spread = np.sqrt((centred**2).sum() / len(five))
    if spread == 0:
        return np.full(3, np.nan)
    hidden = regressor.w1 @ (centred / spread).reshape(-1, 1) + regressor.b1
    hidden = 2 / (1 + np.exp(-2 * hidden)) - 1
    left, top, zoom = (regressor.w2 @ hidden + regressor.b2).ravel()
    return np.array([left * spread + middle[0], top * spread + middle[1], POINTS_CROP_PX / zoom * spread])


def best_faces(network: S3FD, crops: np.ndarray) -> dict[int, FanView]:
    """Which crop → where 3D-FAN should look on it, the box with the best score; without crops where S3FD sees no face.

    crops: (B, 224, 224, 3) uint8 RGB. Upstream suppresses overlapping boxes too, but then takes the first, which is
    the one with the best score.
    """
    bgr = torch.from_numpy(crops).flip(-1).permute(0, 3, 1, 2).float()
    grids = network(bgr - torch.tensor(MEAN_S3FD_BGR).view(3, 1, 1))
    scores = torch.cat([grid[:, :2].softmax(1)[:, 1].flatten(1) for grid in grids], 1).cpu()  # (B, cells of all grids)
    views = {}
    for index, best in enumerate(scores.amax(1)):
        if best > MIN_S3FD_SCORE:
            cell = int((scores[index] == best).nonzero()[-1])  # of equals the last, as upstream's sorting has it
            views[index] = _fan_view(_s3fd_box(grids, index, cell))
    return views


def _s3fd_box(grids: Sequence[Tensor], index: int, cell: int) -> np.ndarray:
    """(4,) float64 left, top, right, bottom, crop pixels, of one cell counted through all grids."""
    stride = FINEST_S3FD_STRIDE
    for grid in grids:
        if cell < grid[0, 0].numel():
            break
        cell -= grid[0, 0].numel()
        stride *= 2
    row, column = divmod(cell, grid.shape[3])
    centre = np.array([stride / 2 + column * stride, stride / 2 + row * stride])
    offsets = grid[index, 2:, row, column].cpu().numpy()  # (4,) float32
    # SSD's box coding: centres in tenths of the anchor, sizes as exponents in fifths.
    size = S3FD_ANCHOR * stride * np.exp(offsets[2:] * np.float32(0.2)).astype(np.float64)
    low = centre + (offsets[:2] * np.float32(0.1)).astype(np.float64) * (S3FD_ANCHOR * stride) - size / 2
    return np.concatenate([low, low + size])


def _fan_view(box: np.ndarray) -> FanView:
    left, top, right, bottom = box.tolist()
    centre_y = bottom - (bottom - top) / 2 - (bottom - top) * FAN_RAISED
    return FanView((right - (right - left) / 2, centre_y), (right - left + bottom - top) / FAN_REFERENCE_PX)


def points_68(network: nn.Module, crops: np.ndarray, views: Sequence[FanView]) -> np.ndarray:
    """(B, 68, 2) float64, whole crop pixels.

    network: the TorchScript 3D-FAN.
    crops: (B, 224, 224, 3) uint8.
    views: one each, all showing some of the crop.
    """
    cuts = np.stack([cut_for_fan(crop, view.window) for crop, view in zip(crops, views, strict=True)])
    image = torch.from_numpy(cuts).permute(0, 3, 1, 2).float() / 255  # (B, 3, 256, 256)
    weight = next(network.parameters(), image)
    heatmaps = network(image.to(weight.device, weight.dtype))
    if not isinstance(heatmaps, Tensor):
        heatmaps = heatmaps[-1]  # archives of older torch versions answer with every stack's heatmaps
    peaks = peak_positions(heatmaps.float().cpu())  # (B, 68, 2)
    return np.stack([view.points_from(own) for own, view in zip(peaks, views, strict=True)])


def peak_positions(heatmaps: Tensor) -> np.ndarray:
    """(B, K, 2) float64 (x, y) of each map's highest value, a quarter pixel towards the higher neighbour, plus 0.5.

    heatmaps: (B, K, 64, 64) float32. The centre of heatmap pixel i is at i + 0.5, as in FAN's training data.
    """
    size = heatmaps.shape[-1]
    flat = heatmaps.flatten(2)
    peak = flat.argmax(2)  # (B, K)
    x, y = peak % size, peak // size
    inside = (x > 0) & (x < size - 1) & (y > 0) & (y < size - 1)
    centre = torch.where(inside, peak, size + 1)  # any place with four neighbours, where there are none
    slopes = [
        flat.gather(2, (centre + step)[..., None]) - flat.gather(2, (centre - step)[..., None]) for step in (1, size)
    ]
    nudge = 0.25 * torch.cat(slopes, -1).sign() * inside[..., None]  # (B, K, 2)
    return (torch.stack([x, y], -1) + 0.5 + nudge).double().numpy()
