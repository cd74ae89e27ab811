"""HRN's UV layout rasterised once: which triangle each texel lies in, and where, bit for bit as PyTorch3D says it.

The official code rasterises the same layout at every call, with PyTorch3D's CPU rasteriser. Its answer decides which
texels count and how vertices blend, so every float32 operation here keeps that rasteriser's order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrn_opt.checks import check

# Both from PyTorch3D: a double, added to a float area and rounded back; triangles within it of no area are skipped.
AREA_EPSILON = 1e-8
# Candidate (texel, triangle) pairs tested at once; a dozen float32 arrays of this length are alive, about 50 MB.
_CHUNK_CANDIDATES = 1 << 20
# How far outside a triangle's box a texel is still tested, in texels: far more than the rounding of its position.
_BOX_MARGIN_TEXELS = 1e-2

Pair = tuple[NDArray[np.float32], NDArray[np.float32]]  # x and y


@dataclass(frozen=True)
class UVFragments:
    """What each texel of a UV layout sees; row 0 is v = 1, column 0 is u = 0.

    triangle: (size, size) int32, -1 where no triangle covers the texel's centre.
    barycentric: (size, size, 3) float32, 0 where nothing; their sum is close to 1, not exactly 1.
    """

    triangle: NDArray[np.int32]
    barycentric: NDArray[np.float32]

    def __post_init__(self) -> None:
        check("triangle", self.triangle, ("S", "S"), "int32")
        size = self.triangle.shape[0]
        check("barycentric", self.barycentric, (size, size, 3), "float32")


def uv_fragments(uv: NDArray[np.floating[Any]], faces: NDArray[np.integer[Any]], size: int) -> UVFragments:
    """The layout of a mesh with one UV per vertex, as PyTorch3D rasterises it behind HRN's wrapper.

    uv: (N, 2) float32 or float64, u right, v up; its own dtype matters to the last bit.
    faces: (F, 3) integers. A texel belongs to a triangle when its centre is strictly inside; where several contain it,
    to the one of the lowest (depth, number).
    """
    corners = screen_points(uv)[faces]  # (F, 3, 2)
    found = [_covered(corners, chunk, size) for chunk in _chunks(corners, size)]
    texel, triangle, weights = (np.concatenate(parts) for parts in zip(*found, strict=True))
    depth = (weights[:, 0] + weights[:, 1]) + weights[:, 2]
    order = np.lexsort((triangle, depth, texel))
    covered, first = np.unique(texel[order], return_index=True)
    winner = order[first]
    triangle_map = np.full(size * size, -1, np.int32)
    triangle_map[covered] = triangle[winner]
    barycentric = np.zeros((size * size, 3), np.float32)
    barycentric[covered] = weights[winner]
    return UVFragments(triangle_map.reshape(size, size), barycentric.reshape(size, size, 3))


def screen_points(uv: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """(N, 2) float32 in PyTorch3D's screen frame: x left, y up, both -1..1, of UVs (N, 2)."""
    # PARITY: upstream doubles and shifts in the file's own dtype, then rounds to float32; test_pytorch3d_uv.py pins it
    centred = uv * 2 - 1
    return np.stack([-centred[:, 0], centred[:, 1]], 1).astype(np.float32)


def texel_centres(size: int) -> NDArray[np.float32]:
    """(size,) float32: where the centres of columns (or rows) 0, 1, … lie in the screen frame, from +1 down to -1."""
    from_the_end = np.arange(size - 1, -1, -1, dtype=np.float32)
    centres: NDArray[np.float32] = np.float32(-1) + (np.float32(2) * from_the_end + np.float32(1)) / np.float32(size)
    return centres


def edge_function(point: Pair, start: Pair, end: Pair) -> NDArray[np.float32]:
    """Twice the signed area of (start, end, point), each an (x, y) pair of float32 arrays."""
    return (point[0] - start[0]) * (end[1] - start[1]) - (point[1] - start[1]) * (end[0] - start[0])


@dataclass(frozen=True)
class _Boxes:
    """Texel boxes of some triangles. Each field (T,) int64; `number` is the triangle, `columns` the box's width."""

    number: NDArray[np.int64]
    row: NDArray[np.int64]
    column: NDArray[np.int64]
    columns: NDArray[np.int64]
    count: NDArray[np.int64]


def _chunks(corners: NDArray[np.float32], size: int) -> Iterator[_Boxes]:
    """The triangles' texel boxes in runs of about _CHUNK_CANDIDATES texels; at least one, maybe empty, run."""
    position = (1 - corners.astype(np.float64)) * (size / 2) - 0.5  # (F, 3, 2) as (column, row), centres on integers
    low = np.clip(np.ceil(position.min(1) - _BOX_MARGIN_TEXELS), 0, size).astype(np.int64)
    high = np.clip(np.floor(position.max(1) + _BOX_MARGIN_TEXELS), -1, size - 1).astype(np.int64)
    span = np.maximum(high - low + 1, 0)  # (F, 2)
    number = np.flatnonzero(span.prod(1))
    count = span.prod(1)[number]
    cuts = np.flatnonzero(np.diff((count.cumsum() - count) // _CHUNK_CANDIDATES)) + 1
    for part in np.split(np.arange(len(number)), cuts):
        which = number[part]
        yield _Boxes(which, low[which, 1], low[which, 0], span[which, 0], count[part])


def _covered(
    corners: NDArray[np.float32], boxes: _Boxes, size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Texels strictly inside triangles: flat texel (C,), triangle (C,), barycentrics (C, 3) float32."""
    first = np.repeat(boxes.count.cumsum() - boxes.count, boxes.count)
    row, column = np.divmod(np.arange(len(first)) - first, np.repeat(boxes.columns, boxes.count))
    row += np.repeat(boxes.row, boxes.count)
    column += np.repeat(boxes.column, boxes.count)
    number = np.repeat(boxes.number, boxes.count)
    centres = texel_centres(size)
    weights, inside = _barycentrics(corners[number], (centres[column], centres[row]))
    return (row * size + column)[inside], number[inside], weights[inside]


def _barycentrics(corners: NDArray[np.float32], point: Pair) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(C, 3) float32 barycentrics of points, an (x, y) pair of (C,), in triangles (C, 3, 2), and which are inside."""
    a, b, c = ((corners[:, k, 0], corners[:, k, 1]) for k in range(3))
    # PARITY: areas of ±1e-8 and less are skipped, and all others divide with 1e-8 added, so they sum to almost 1;
    # test_pytorch3d_uv.py pins it.
    area = edge_function(c, a, b)
    divisor = (area.astype(np.float64) + AREA_EPSILON).astype(np.float32)
    divisor[divisor == 0] = np.nan  # only where the area is skipped anyway
    weights = np.stack([edge_function(point, *side) / divisor for side in ((b, c), (c, a), (a, b))], 1)
    inside = (weights > 0).all(1) & (np.abs(area.astype(np.float64)) > AREA_EPSILON)
    for axis in range(2):
        low, high = corners[:, :, axis].min(1), corners[:, :, axis].max(1)
        inside &= (point[axis] >= low) & (point[axis] <= high)
    return weights, inside
