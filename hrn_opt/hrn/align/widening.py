"""The crop with its cheeks pulled outwards a little, which the texture fit compares its render with.

Source: P.fat_face and P.find_face_contour; spread_flow and image_warp_grid1 of face_reconstruction/utils.py. Upstream
computes flow and contour maps at 800 px and then takes 224 × 224 samples of them: here they exist at the samples only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from hrn_opt.hrn.exact.opencv_blur import blurred_at
from hrn_opt.hrn.exact.opencv_lines import stroke_mask
from hrn_opt.hrn.exact.opencv_resize import LinearTaps, linear_taps, resize_cubic
from hrn_opt.hrn.find.boxes import detect
from hrn_opt.hrn.find.faces import closer_points, long_side_size
from hrn_opt.hrn.networks.landmarks106 import Landmarks106
from hrn_opt.hrn.networks.retinaface import RetinaFace
from hrn_opt.types import Box

DEGREE = 0.03  # the published strength: the largest shift, over twice the face box's longer side
ENLARGED_PX = 800
STILL_PX = 0.2  # shifts below this in both directions leave a pixel as it is
NEAREST_SHARE = 0.2  # within this of a corner of four pixels, the corner's pixel is taken unmixed
SMALLEST_STROKE_PX = 4  # below, the face is so small that nothing would move by STILL_PX
_FLOW_CELLS = 100
_STROKE_SHARE = 10  # the face's shorter side, with its surroundings, over the stroke's thickness
_SURROUNDINGS = 0.5  # of the box's size, on every side


@dataclass(frozen=True)
class _Outline:
    """Some of the 106 points, first to last - 1, joined by a line."""

    first: int
    last: int
    closed: bool = False

    def corners(self, points: np.ndarray) -> np.ndarray:
        """(K, 2) int64, cut towards zero; a closed line comes back to its first corner."""
        corners = points[self.first : self.last].astype(np.int64)
        return np.concatenate([corners, corners[:1]]) if self.closed else corners


CONTOUR = _Outline(0, 33)
# Brows, nose and its wings, eyes, mouth: what must not move.
FEATURES = (
    _Outline(33, 38),
    _Outline(42, 47),
    _Outline(51, 55),
    _Outline(57, 64),
    _Outline(66, 74, closed=True),
    _Outline(75, 83, closed=True),
    _Outline(84, 96, closed=True),
)


def widen_cheeks(
    retinaface: RetinaFace, landmarks106: Landmarks106, crops: Sequence[np.ndarray], degree: float = DEGREE
) -> tuple[np.ndarray, ...]:
    """Each crop with its face widened, (H, W, 3) uint8; the crop itself where no face is found in it, or degree is 0.

    crops: (H, W, 3) uint8 RGB, 224 px as published.
    """
    if degree == 0:
        return tuple(crops)
    # PARITY: upstream hands RGB to a function that expects BGR, so the detectors see swapped channels; test_widening.py
    # pins it.
    swapped = [np.ascontiguousarray(crop[..., ::-1]) for crop in crops]
    large = [resize_cubic(crop, long_side_size(crop.shape[:2], ENLARGED_PX)) for crop in swapped]
    best = {i: found[0] for i, found in enumerate(detect(retinaface, large)) if found}
    places = list(best)
    points = closer_points(landmarks106, [large[i] for i in places], list(best.values()))
    flows = {}
    for place, own in ((places[n], own) for n, own in points.items()):
        box, large_hw, crop_hw = best[place].box, large[place].shape[:2], crops[place].shape[:2]
        if _can_flow(box, large_hw):
            flows[place] = face_flow(box, own, large_hw, crop_hw, degree)
    return tuple(warped(crop, flows[i]) if i in flows else crop for i, crop in enumerate(crops))


def _can_flow(box: Box, large_hw: tuple[int, int]) -> bool:
    return _stroke_px(box, large_hw) >= SMALLEST_STROKE_PX and _flow_square(box, large_hw).side >= 1


def face_flow(
    box: Box, points: np.ndarray, large_hw: tuple[int, int], crop_hw: tuple[int, int], degree: float
) -> np.ndarray:
    """(h, w, 2) float64: where in the crop each pixel takes its colour from, less its own place; x and y in crop px.

    box, points: the face's box and its 106 points (106, 2) in pixels of the enlarged crop. Towards the face's middle,
    and only round its contour, away from brows, eyes, nose and mouth.
    """
    rows, columns = (linear_taps(large, small) for large, small in zip(large_hw, crop_hw, strict=True))
    square = _flow_square(box, large_hw)
    row_at, column_at = (np.concatenate([taps.first, taps.second]) for taps in (rows, columns))
    row_in, column_in = (
        (at >= start) & (at < start + square.side) for at, start in ((row_at, square.top), (column_at, square.left))
    )
    rows_in, columns_in = row_at[row_in], column_at[column_in]
    stroke_px = _stroke_px(box, large_hw)
    contour = stroke_mask([CONTOUR.corners(points)], stroke_px, large_hw)
    features = stroke_mask([outline.corners(points) for outline in FEATURES], 2 * stroke_px, large_hw)
    moving, still = (
        blurred_at(mask, 2 * stroke_px + 1, rows_in, columns_in)[..., None] for mask in (contour, features)
    )
    pull = _pull_at(square, degree, rows_in, columns_in) * moving / np.float32(255)
    samples = np.zeros((len(row_at), len(column_at), 2))
    samples[np.ix_(row_in, column_in)] = pull * (1 - still / 255.0)  # float64 from here on, as upstream
    height, width = crop_hw
    across = columns.share.astype(np.float64)[:, None]
    lines = samples[:, :width] * (1 - across) + samples[:, width:] * across
    down = rows.share.astype(np.float64)[:, None, None]
    flow: NDArray[np.float64] = (lines[:height] * (1 - down) + lines[height:] * down) / (ENLARGED_PX / max(crop_hw))
    return flow


@dataclass(frozen=True)
class _FlowSquare:
    """The square in which pixels move, in pixels of the enlarged crop."""

    left: int
    top: int
    side: int


def _stroke_px(box: Box, size_hw: tuple[int, int]) -> int:
    """The contour's thickness: a tenth of the shorter side of the box and its surroundings inside the picture."""
    height, width = size_hw
    across, down = int((box.right - box.left) * _SURROUNDINGS), int((box.bottom - box.top) * _SURROUNDINGS)
    wide = min(box.right + across, width) - max(box.left - across, 0)
    high = min(box.bottom + down, height) - max(box.top - down, 0)
    return int(min(wide, high)) // _STROKE_SHARE


def _flow_square(box: Box, size_hw: tuple[int, int]) -> _FlowSquare:
    """Twice the box's longer side round its middle, but inside the picture; its side is below 1 when that cannot be."""
    height, width = size_hw
    middle_x, middle_y = (box.left + box.right) / 2, (box.top + box.bottom) / 2
    to_border = min(middle_x - 1, middle_y - 1, height - middle_y - 1, width - middle_x - 1)
    side = int(2 * min(max(abs(box.height), abs(box.width)), to_border))
    return _FlowSquare(int(middle_x - side / 2), int(middle_y - side / 2), side)


def _pull_at(
    square: _FlowSquare, degree: float, row_at: NDArray[np.int64], column_at: NDArray[np.int64]
) -> NDArray[np.float32]:
    """(R, C, 2) float32: the pull towards the square's middle at rows × columns, in pixels of the enlarged crop."""
    taps = linear_taps(_FLOW_CELLS, square.side)
    cells = _unit_flow() * np.float32(square.side * degree)
    lines = _blended(cells, taps, row_at - square.top)  # (R, 100, 2)
    pull: NDArray[np.float32] = _blended(lines.swapaxes(0, 1), taps, column_at - square.left).swapaxes(0, 1)
    return pull


def _blended(lines: NDArray[np.float32], taps: LinearTaps, at: NDArray[np.int64]) -> NDArray[np.float32]:
    share = taps.share[at, None, None]
    blended: NDArray[np.float32] = lines[taps.first[at]] * (1 - share) + lines[taps.second[at]] * share
    return blended


@lru_cache(maxsize=1)
def _unit_flow() -> NDArray[np.float32]:
    """(100, 100, 2) float32: x and y towards the middle; length 0 there, 1 halfway out, 0 at the rim and beyond."""
    radius = _FLOW_CELLS / 2
    along = np.arange(_FLOW_CELLS) - _FLOW_CELLS // 2
    inwards = -np.stack(np.meshgrid(along, along), -1).astype(np.float64)  # (100, 100, 2)
    distance = np.linalg.norm(inwards, axis=-1, keepdims=True)
    length = np.maximum(1 - np.abs(2 * distance / radius - 1), 0)
    # Upstream's angles go through OpenCV's polynomial atan2, which is off by up to 1.7e-4: 4e-4 px at the most.
    flow: NDArray[np.float32] = (inwards / np.maximum(distance, 1) * length).astype(np.float32)
    return flow


def warped(picture: NDArray[np.uint8], flow: NDArray[np.float64]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8: each pixel from its place plus the flow, where that moves it at all.

    picture: (H, W, 3) uint8.
    flow: (H, W, 2) float64, x and y in pixels.
    """
    height, width = picture.shape[:2]
    rows, columns = np.nonzero((np.abs(flow) >= STILL_PX).any(-1))
    x = _inside(columns + flow[rows, columns, 0], width)
    y = _inside(rows + flow[rows, columns, 1], height)
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    right, bottom = np.minimum(np.ceil(x).astype(int), width - 1), np.minimum(np.ceil(y).astype(int), height - 1)
    across, down = _nearly_whole((x - left)[:, None], (y - top)[:, None])
    upper = picture[top, left] * (1 - across) + picture[top, right] * across
    lower = picture[bottom, left] * (1 - across) + picture[bottom, right] * across
    moved: NDArray[np.uint8] = picture.copy()
    moved[rows, columns] = (upper * (1 - down) + lower * down).astype(np.uint8)  # PARITY: cut; test_widening.py pins it
    return moved


def _inside(places: np.ndarray, size: int) -> np.ndarray:
    """Places outside the picture at its border; between its last pixel and its edge they stay."""
    return np.where(places < 0, 0.0, np.where(places >= size, size - 1.0, places))


def _nearly_whole(across: np.ndarray, down: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The shares of the right and the lower pixel, whole where both are near a corner of the four pixels."""
    # PARITY: upstream's bilinear has flat corners; test_widening.py pins it.
    near = [(share < NEAREST_SHARE) | (share > 1 - NEAREST_SHARE) for share in (across, down)]
    corner = near[0] & near[1]
    return np.where(corner, np.rint(across), across), np.where(corner, np.rint(down), down)
