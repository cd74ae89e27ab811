"""A z-buffer in plain torch: which triangle each pixel sees, and where inside it.

Deterministic on every device: depth and triangle number are packed into one int64 and reduced with a minimum, so the
nearest triangle wins and, at equal depth, the lowest number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

# Candidate (pixel, triangle) pairs handled at once; 1 M keeps the peak near 100 MB.
_CHUNK_CANDIDATES = 1 << 20
_EMPTY = torch.iinfo(torch.int64).max
_TRIANGLE_BITS = 32
# A centre exactly on a shared edge can round to -6e-8 on both sides; without this it would see neither triangle.
_EDGE_SLACK = 1e-6


@dataclass(frozen=True)
class Fragments:
    """What each pixel sees.

    triangle: (H, W) int64, -1 where nothing.
    barycentric: (H, W, 3) float32, 0 where nothing.
    depth: (H, W) float32, +inf where nothing.
    """

    triangle: Tensor
    barycentric: Tensor
    depth: Tensor

    @property
    def covered(self) -> Tensor:
        """(H, W) bool."""
        return self.triangle >= 0

    def cpu(self) -> Fragments:
        return Fragments(self.triangle.cpu(), self.barycentric.cpu(), self.depth.cpu())


@dataclass(frozen=True)
class Seen:
    """The pixels that see a triangle; P of them.

    pixel: (P,) int64, ascending, row · width + column.
    triangle: (P,) int64.
    barycentric: (P, 3) float32.
    depth: (P,) float32.
    """

    pixel: Tensor
    triangle: Tensor
    barycentric: Tensor
    depth: Tensor

    def interpolate(self, values: Tensor, faces: Tensor) -> Tensor:
        """(P, C) of per-vertex values (N, C)."""
        a, b, c = (values.index_select(0, corner) for corner in faces.index_select(0, self.triangle).unbind(1))
        return a * self.barycentric[:, :1] + b * self.barycentric[:, 1:2] + c * self.barycentric[:, 2:]


def rasterize(points: Tensor, faces: Tensor, size_hw: tuple[int, int]) -> Fragments:
    """Nearest triangle at every pixel centre; as of `seen_pixels`."""
    seen = seen_pixels(points, faces, size_hw)
    count = size_hw[0] * size_hw[1]
    triangle = seen.triangle.new_full((count,), -1)
    triangle[seen.pixel] = seen.triangle
    barycentric = seen.barycentric.new_zeros(count, 3)
    barycentric[seen.pixel] = seen.barycentric
    depth = seen.depth.new_full((count,), torch.inf)
    depth[seen.pixel] = seen.depth
    return Fragments(triangle.view(size_hw), barycentric.view(*size_hw, 3), depth.view(size_hw))


def seen_pixels(points: Tensor, faces: Tensor, size_hw: tuple[int, int]) -> Seen:
    """Nearest triangle at every pixel centre that sees one.

    points: (N, 3) float32 (x px, y px, depth), pixel (0, 0) centred on (0.5, 0.5), smaller depth is nearer.
    faces: (F, 3) int64, either winding; triangles without area are skipped. A centre exactly on an edge is inside.
    """
    height, width = size_hw
    setup = _set_up(points.float(), faces, size_hw)
    keys = torch.full((height * width,), _EMPTY, dtype=torch.int64, device=points.device)
    for triangle, dx, dy in _candidates(setup):
        plane = setup.planes.index_select(0, triangle)  # (C, 4, 3)
        values = plane[..., 0] + plane[..., 1] * dx[:, None] + plane[..., 2] * dy[:, None]  # (C, 4)
        inside = (values[:, :3].amin(1) >= -_EDGE_SLACK).nonzero().squeeze(1)
        triangle = triangle[inside]
        pixel = setup.first_pixel[triangle] + dy[inside].long() * width + dx[inside].long()
        key = (_ordered_bits(values[inside, 3]) << _TRIANGLE_BITS) | triangle
        keys.scatter_reduce_(0, pixel, key, "amin", include_self=True)
    return _resolve(keys, setup, width)


def interpolate(fragments: Fragments, values: Tensor, faces: Tensor) -> Tensor:
    """(H, W, C) of per-vertex values (N, C) at every pixel; 0 where nothing is seen."""
    corners = values[faces[fragments.triangle.clamp(min=0)]]  # (H, W, 3, C)
    return (fragments.barycentric[..., None] * corners).sum(-2)


@dataclass(frozen=True)
class _Setup:
    """The triangles that may show, ready to be walked over the pixels of their bounding boxes.

    number: (T,) int64, ascending, which triangles these are.
    planes: (T, 4, 3) float32, value = p0 + p1·dx + p2·dy of the three barycentrics and the depth, dx and dy in pixels
    from the box's first centre: small numbers, so float32 is enough at any image size.
    first_pixel: (T,) int64 flat.
    columns, count: (T,) int64 of the box; count is 0 for a triangle without area.
    """

    number: Tensor
    planes: Tensor
    first_pixel: Tensor
    columns: Tensor
    count: Tensor


def _set_up(points: Tensor, faces: Tensor, size_hw: tuple[int, int]) -> _Setup:
    """Triangles whose box holds no pixel centre, most of a fine mesh, are dropped after a few operations."""
    height, width = size_hw
    low, high = _boxes(points, faces)
    low = low.clamp_(min=0)
    high = torch.minimum(high, points.new_tensor([width - 1, height - 1]))
    holds = high >= low  # (F, 2); NaN compares false
    number = (holds[:, 0] & holds[:, 1]).nonzero().squeeze(1)
    corners, low, span = points[faces[number]], low[number], (high - low)[number].long() + 1
    planes, double_area = _planes(corners, low)
    first = low.long()
    first_pixel = first[:, 1] * width + first[:, 0]
    return _Setup(number, planes, first_pixel, span[:, 0], span.prod(1) * (double_area != 0))


def _boxes(points: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
    """First and last pixel centre (F, 2) in each triangle's bounding box, counted from 0, as floats."""
    screen = points[:, :2].contiguous()
    a, b, c = (screen.index_select(0, corner) for corner in faces.unbind(1))
    low, high = torch.minimum(torch.minimum(a, b), c), torch.maximum(torch.maximum(a, b), c)
    return low.sub_(0.5).ceil_(), high.sub_(0.5).floor_()


def _planes(corners: Tensor, low: Tensor) -> tuple[Tensor, Tensor]:
    """`_Setup.planes` of corners (T, 3, 3) whose boxes start at low (T, 2), and twice the signed areas (T,)."""
    local = (corners[..., :2] - (low[:, None] + 0.5)).double()  # (T, 3, 2) seen from the first centre
    following, previous = local.roll(-1, 1), local.roll(-2, 1)
    edge = previous - following  # (T, 3, 2) the edge opposite each corner
    double_area = _cross(local[:, 1] - local[:, 0], local[:, 2] - local[:, 0])
    weights = torch.stack([_cross(following, previous), -edge[..., 1], edge[..., 0]], -1)  # (T, 3, 3)
    weights = weights / torch.where(double_area == 0, 1.0, double_area)[:, None, None]
    depth = (weights * corners[..., 2:].double()).sum(1, keepdim=True)  # (T, 1, 3)
    return torch.cat([weights, depth], 1).float(), double_area


def _candidates(setup: _Setup) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Chunks of (triangle, dx, dy): every pixel centre inside each triangle's bounding box."""
    ends = setup.count.cumsum(0)
    begins = ends - setup.count
    start = 0
    while start < len(ends):
        limit = begins[start] + _CHUNK_CANDIDATES
        stop = max(int(torch.searchsorted(ends, limit, right=True)), start + 1)
        count = setup.count[start:stop]
        triangle = torch.arange(start, stop, device=ends.device).repeat_interleave(count)
        before = (begins[start:stop] - begins[start]).repeat_interleave(count)
        local = torch.arange(len(triangle), device=ends.device) - before
        columns = setup.columns[start:stop].repeat_interleave(count)
        dy = torch.div(local, columns, rounding_mode="floor")
        yield triangle, (local - dy * columns).float(), dy.float()
        start = stop


def _cross(first: Tensor, second: Tensor) -> Tensor:
    return first[..., 0] * second[..., 1] - first[..., 1] * second[..., 0]


def _ordered_bits(depth: Tensor) -> Tensor:
    """int64 that sorts as the float32 does (sign-magnitude bits turned into two's complement)."""
    bits = (depth + 0.0).view(torch.int32)  # + 0.0 turns -0.0 into 0.0
    return torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).long()


def _resolve(keys: Tensor, setup: _Setup, width: int) -> Seen:
    shown = (keys != _EMPTY).nonzero().squeeze(1)  # (P,)
    winner = keys.index_select(0, shown) & ((1 << _TRIANGLE_BITS) - 1)
    first = setup.first_pixel.index_select(0, winner)
    column = first % width
    step = shown - first + column
    dy = torch.div(step, width, rounding_mode="floor")
    dx = step - dy * width - column
    plane = setup.planes.index_select(0, winner)
    values = plane[..., 0] + plane[..., 1] * dx[:, None] + plane[..., 2] * dy[:, None]  # (P, 4)
    return Seen(shown, setup.number.index_select(0, winner), values[:, :3], values[:, 3])
