"""Thick lines in whole pixels, equal to OpenCV's.

A stroke of cv2.line (imgproc/src/drawing.cpp) is a four-cornered polygon, its outline, and a disc at either end. Each
of these is a set of spans, pieces of one row; the union of all spans is filled in one go.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

_SHIFT = 16  # bits after the point of OpenCV's coordinates
_ONE = 1 << _SHIFT
_HALF = _ONE >> 1

Point = tuple[int, int]  # x, y


@dataclass(frozen=True)
class _Spans:
    """row, first, last: (n,) int64; pixels first to last of each row."""

    row: np.ndarray
    first: np.ndarray
    last: np.ndarray


def stroke_mask(lines: Iterable[np.ndarray], thickness: int, size_hw: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: the pixels that any of the lines covers.

    lines: each (K, 2) int64 corners (x, y), drawn one to the next; a closed line repeats its first corner at the end.
    thickness: px, at least 2.
    """
    canvas = _Frame(0, 0, size_hw[1] - 1, size_hw[0] - 1)
    near = _Frame(-thickness, -thickness, canvas.right + thickness, canvas.bottom + thickness)
    spans: list[_Spans] = []
    ends: list[Point] = []
    for corners in lines:
        for start, end in zip(corners[:-1].tolist(), corners[1:].tolist(), strict=True):
            stroke = _clipped(tuple(start), tuple(end), near)
            if stroke is not None:
                spans += _bar(*stroke, thickness, canvas.in_fractions)
                ends += stroke
    if not ends:
        return np.zeros(size_hw, bool)
    spans.append(_discs(np.unique(np.array(ends), axis=0), (thickness + 1) // 2))
    return _filled(spans, size_hw)


@dataclass(frozen=True)
class _Frame:
    """The pixels (or fractions of pixels) that may be drawn on, the last ones included."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def in_fractions(self) -> _Frame:
        return _Frame(
            self.left << _SHIFT, self.top << _SHIFT, (self.right + 1 << _SHIFT) - 1, (self.bottom + 1 << _SHIFT) - 1
        )


def _clipped(start: Point, end: Point, frame: _Frame) -> tuple[Point, Point] | None:
    """The part of a line inside the frame, if any; rows first, and every division towards zero, as cv2.clipLine."""
    for axis, low, high in ((1, frame.top, frame.bottom), (0, frame.left, frame.right)):
        if max(start[axis], end[axis]) < low or min(start[axis], end[axis]) > high:
            return None
        start = _moved(start, end, axis, min(max(start[axis], low), high))
        end = _moved(end, start, axis, min(max(end[axis], low), high))
    return start, end


def _moved(point: Point, other: Point, axis: int, to: int) -> Point:
    """The point moved along the line to `other` until its coordinate on that axis is `to`."""
    if point[axis] == to:
        return point
    span = other[axis] - point[axis]
    across = point[1 - axis] + _divided((to - point[axis]) * (other[1 - axis] - point[1 - axis]), span)
    return (to, across) if axis == 0 else (across, to)


def _divided(dividend: int, divisor: int) -> int:
    """The whole quotient cut towards zero, as C divides."""
    quotient = abs(dividend) // abs(divisor)
    return quotient if (dividend < 0) == (divisor < 0) else -quotient


def _filled(spans: list[_Spans], size_hw: tuple[int, int]) -> np.ndarray:
    """Where at least one span lies, as the running sum of +1 at first and -1 after last."""
    height, width = size_hw
    row, first, last = (np.concatenate([getattr(part, name) for part in spans]) for name in ("row", "first", "last"))
    seen = (row >= 0) & (row < height) & (last >= 0) & (first < width) & (first <= last)
    row, first, last = row[seen], np.maximum(first[seen], 0), np.minimum(last[seen], width - 1)
    stride = width + 1
    top, bottom = int(row.min(initial=0)), int(row.max(initial=0)) + 1
    start, count = (row - top) * stride, (bottom - top) * stride
    change = np.zeros(count, np.int16)
    np.add.at(change, start + first, 1)
    np.subtract.at(change, start + last + 1, 1)
    covered = np.zeros((height, width), bool)
    covered[top:bottom] = change.reshape(-1, stride).cumsum(1, dtype=np.int16)[:, :width] > 0
    return covered


def _discs(centres: np.ndarray, radius: int) -> _Spans:
    """Discs of OpenCV's integer circle round (K, 2) centres."""
    offsets, reach = _disc_rows(radius)
    row = centres[:, 1:] + offsets  # (K, rows)
    first, last = centres[:, :1] - reach, centres[:, :1] + reach
    return _Spans(row.ravel(), first.ravel(), last.ravel())


def _disc_rows(radius: int) -> tuple[np.ndarray, np.ndarray]:
    """Row offsets, and how far the disc reaches to either side in them."""
    offsets, reach = [], []
    across, down, error = radius, 0, 0
    while across >= down:
        offsets += [-down, down, -across, across]
        reach += [across, across, down, down]
        error += 2 * down + 1
        down += 1
        if error > 0:
            error -= 2 * across - 1
            across -= 1
    return np.array(offsets), np.array(reach)


def _bar(start: Point, end: Point, thickness: int, canvas: _Frame) -> list[_Spans]:
    """The polygon between two pixels, without the discs at its ends; and its outline. canvas: in 1/65536 px."""
    if start == end:
        return []
    (start_x, start_y), (end_x, end_y) = start, end
    down, across = end_y - start_y, start_x - end_x
    # Half the thickness, to the next half pixel up when odd; a vector across the line of that length.
    half = ((thickness << _SHIFT - 1) + (thickness & 1) * _ONE * 0.5) / np.sqrt(float(across * across + down * down))
    dx, dy = round(down * half), round(across * half)
    near, far = (start_x << _SHIFT, start_y << _SHIFT), (end_x << _SHIFT, end_y << _SHIFT)
    corners = [
        (near[0] + dx, near[1] + dy),
        (near[0] - dx, near[1] - dy),
        (far[0] - dx, far[1] - dy),
        (far[0] + dx, far[1] + dy),
    ]
    clipped = [_clipped(corners[index - 1], corners[index], canvas) for index in range(4)]
    edges = [edge for edge in clipped if edge is not None]
    # OpenCV sets each edge's end by itself: the steps along it may miss it by a pixel.
    ends = np.array([[*edge[1], *edge[0]] for edge in edges], np.int64).reshape(-1, 2) + _HALF >> _SHIFT
    return [_inside(corners), _Spans(ends[:, 1], ends[:, 0], ends[:, 0]), *(_thin_line(*edge) for edge in edges)]


def _thin_line(start: Point, end: Point) -> _Spans:
    """One pixel for each step along the longer axis; corners in 1/65536 px."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    along = 0 if abs(dx) > abs(dy) else 1
    if (dx, dy)[along] < 0:
        start, end = end, start
    length, rise = end[along] - start[along], end[1 - along] - start[1 - along]
    slope = _divided(rise << _SHIFT, length | 1)
    steps = np.arange((length >> _SHIFT) + 1)
    main = (start[along] + _HALF >> _SHIFT) + steps
    other = start[1 - along] + _HALF + steps * slope >> _SHIFT
    x, y = (main, other) if along == 0 else (other, main)
    return _Spans(y, x, x)


def _inside(corners: list[Point]) -> _Spans:
    """The rows of a convex polygon, corners in 1/65536 px."""
    rows = [y + _HALF >> _SHIFT for _, y in corners]
    top = min(range(len(corners)), key=lambda index: corners[index][1])
    first, last = rows[top], max(rows)
    if first == last:  # no edge to follow: the outline covers it
        return _Spans(*np.zeros((3, 0), np.int64))
    sides = [_edge(corners, rows, top, step) for step in (1, -1)]
    count = min(len(side) for side in sides)
    low, high = np.minimum(sides[0][:count], sides[1][:count]), np.maximum(sides[0][:count], sides[1][:count])
    return _Spans(first + np.arange(count), low + _HALF >> _SHIFT, high + _HALF >> _SHIFT)


def _edge(corners: list[Point], rows: list[int], top: int, step: int) -> np.ndarray:
    """(rows,) int64: x of one side of the polygon, row by row from its top, in 1/65536 px."""
    pieces, at = [], top
    for _ in range(len(corners)):
        after = (at + step) % len(corners)
        height = rows[after] - rows[at]
        if height > 0:
            slope = _divided(2 * (corners[after][0] - corners[at][0]) + height, 2 * height)
            pieces.append(corners[at][0] + slope * np.arange(height))
        at = after
    return np.concatenate(pieces)
