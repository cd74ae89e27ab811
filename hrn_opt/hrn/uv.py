"""Between vertices, the UV map and the photo: interpolation on the rasterised layout, and the official sampling rule.

Source: world2uv in the official renderer.py, get_texture_map and add_nonlinear_offset in bfm.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional as F

from hrn_opt.geometry.sparse import SparseMap
from hrn_opt.hrn.frames import CENTRE_PX, CROP_PX, FOCAL_PX, UV_PX


@dataclass(frozen=True)
class OfficialUVRaster:
    """The pack's UV layout, rasterised once.

    corners: (T, 3) int64, the vertices of the triangle at each covered texel.
    weights: (T, 3) float32; PARITY: they do not sum to exactly 1; test_uv.py pins it.
    texels: (T,) int64 flat numbers of the covered texels of 256².
    """

    corners: Tensor
    weights: Tensor
    texels: Tensor

    def interpolate(self, vertices: Tensor) -> Tensor:
        """(B, C, 256, 256) of per-vertex values (B, N, C); 0 where no triangle is."""
        batch, _, channels = vertices.shape
        grid = vertices.new_zeros(batch, UV_PX * UV_PX, channels)
        for face, one in enumerate(vertices):
            values = F.embedding_bag(self.corners, one, mode="sum", per_sample_weights=self.weights)  # (T, C)
            grid[face, self.texels] = values
        return grid.transpose(1, 2).reshape(batch, channels, UV_PX, UV_PX)


def unwrap(camera_map: Tensor, image: Tensor) -> Tensor:
    """(B, C, 256, 256): the image's value at each texel.

    camera_map: (B, 3, 256, 256) camera-frame positions, all 0 where no triangle is.
    image: (B, C, size, size), a view of the 224 px crop at any size.
    """
    batch, channels, height, width = image.shape
    taps = _official_taps(camera_map.flatten(2), height, width)
    source = image.flatten(2)
    parts = (source.gather(2, index[:, None].expand(-1, channels, -1)) * weight[:, None] for index, weight in taps)
    return reduce(torch.add, parts).view(batch, channels, UV_PX, UV_PX)


def _official_taps(positions: Tensor, height: int, width: int) -> list[tuple[Tensor, Tensor]]:
    """Four (index (B, P) int64, weight (B, P)) of the published bilinear rule for positions (B, 3, P).

    PARITY: the weights of the two rows are swapped, so the value jumps at whole pixels; a texel without a triangle
    divides 0 by 0, becomes 0, and so takes the photo's last row, first column; test_uv.py pins both.
    """
    x, y, z = positions.unbind(1)
    column = ((x * FOCAL_PX + z * CENTRE_PX) / z * (width / CROP_PX)).nan_to_num(0.0)
    row = ((y * FOCAL_PX + z * CENTRE_PX) / z * (height / CROP_PX)).nan_to_num(0.0)
    row = height - 1 - row
    left, top = column.floor(), row.floor()
    right_share, bottom_share = column - left, row - top
    left, top = left.long(), top.long()
    columns = left.clamp(0, width - 1), (left + 1).clamp(0, width - 1)
    rows = top.clamp(0, height - 1), (top + 1).clamp(0, height - 1)
    return [
        (rows[0] * width + columns[0], (1 - right_share) * bottom_share),
        (rows[1] * width + columns[0], (1 - right_share) * (1 - bottom_share)),
        (rows[0] * width + columns[1], right_share * bottom_share),
        (rows[1] * width + columns[1], right_share * (1 - bottom_share)),
    ]


def vertex_sampler(uv: Tensor, size: int) -> SparseMap:
    """The map that reads a (size², C) UV map at every vertex, by the published rule.

    uv: (N, 2) float32 in 0..1, v up. PARITY: rows are swapped as in `unwrap`; test_uv.py pins it.
    """
    u, v = (uv * size).unbind(1)
    left, down = u.floor(), v.floor()
    right_share, up_share = u - left, v - down
    left, down = left.long(), down.long()
    columns = left.clamp(0, size - 1), (left + 1).clamp(0, size - 1)
    rows = (size - 1 - down).clamp(0, size - 1), (size - down).clamp(0, size - 1)
    taps = [
        (rows[0] * size + columns[0], (1 - right_share) * up_share),
        (rows[1] * size + columns[0], (1 - right_share) * (1 - up_share)),
        (rows[0] * size + columns[1], right_share * up_share),
        (rows[1] * size + columns[1], right_share * (1 - up_share)),
    ]
    index = torch.stack([tap[0] for tap in taps], 1)  # (N, 4)
    weights = torch.stack([tap[1] for tap in taps], 1)
    offsets = torch.arange(0, index.numel(), 4, dtype=torch.int32, device=uv.device)
    return SparseMap(index.flatten().int(), offsets, weights.flatten())
