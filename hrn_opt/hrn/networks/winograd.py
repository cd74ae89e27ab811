"""3×3 convolutions by Winograd's F(4×4, 3×3): a quarter of the multiplications, for float32 on a CPU.

torch's own CPU kernels multiply directly; as matrix products this is faster on middling maps. Matrices: Lavin and
Gray, "Fast Algorithms for Convolutional Neural Networks" (arXiv 1509.09308). `F.conv2d` is the slow twin.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

TILE = 4  # output pixels along a tile's side
PATCH = TILE + 2  # input pixels that such a tile reads
TILES_AT_ONCE = 256  # their patches stay near the caches; peak memory grows by about 0.1 GB
# Outside these bounds the transforms cost more than the products they save.
FEWEST_CHANNELS = 128
FEWEST_TILES, MOST_TILES = 64, 1024

INPUT_ROWS = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
FILTER_ROWS_24 = ((6, 0, 0), (-4, -4, -4), (-4, 4, -4), (1, 2, 4), (1, -2, 4), (0, 0, 24))  # in 24ths
OUTPUT_ROWS = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))


@dataclass(frozen=True)
class Transforms:
    """The transforms of whole squares, float32: along rows and columns in one matrix.

    filters: (36, 9).
    patches: (36, 36).
    tiles: (16, 36).
    """

    filters: Tensor
    patches: Tensor
    tiles: Tensor

    def __post_init__(self) -> None:
        shapes = [tuple(matrix.shape) for matrix in (self.filters, self.patches, self.tiles)]
        if shapes != [(PATCH**2, 9), (PATCH**2, PATCH**2), (TILE**2, PATCH**2)]:
            raise ValueError(f"transforms have shapes {shapes}")


@functools.cache
def _transforms() -> Transforms:
    def both_axes(rows: tuple[tuple[int, ...], ...], unit: int = 1) -> Tensor:
        matrix = torch.tensor(rows, dtype=torch.float64, device="cpu") / unit
        return torch.kron(matrix, matrix).float()

    return Transforms(both_axes(FILTER_ROWS_24, 24), both_axes(INPUT_ROWS), both_axes(OUTPUT_ROWS))


def is_faster(x: Tensor, weight: Tensor) -> bool:
    """Whether `conv3x3` beats F.conv2d for an unpadded `x` (B, C, H, W) and its 3×3 `weight`."""
    height, width = x.shape[2:]
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and height % TILE == 0
        and width % TILE == 0
        and FEWEST_TILES <= height * width // TILE**2 <= MOST_TILES
        and min(weight.shape[:2]) >= FEWEST_CHANNELS
    )


def conv3x3(padded: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """F.conv2d(padded, weight, bias), to four times its rounding error.

    padded: (B, C, H + 2, W + 2) float32 channels_last, H and W multiples of 4.
    weight: (K, C, 3, 3). Returns (B, K, H, W) channels_last.
    """
    batch, channels, height, width = padded.shape[0], padded.shape[1], padded.shape[2] - 2, padded.shape[3] - 2
    transforms, out_channels = _transforms(), weight.shape[0]
    flat_filters = weight.permute(2, 3, 0, 1).reshape(9, -1)
    filters = (transforms.filters @ flat_filters).view(PATCH**2, out_channels, channels).transpose(1, 2)  # (36, C, K)
    across = width // TILE
    out = padded.new_empty(batch, height // TILE, TILE, across, TILE, out_channels)
    rows_at_once = max(1, TILES_AT_ONCE // across)
    for picture, tiles_out in zip(padded.permute(0, 2, 3, 1).contiguous(), out, strict=True):
        patches = picture.unfold(0, PATCH, TILE).unfold(1, PATCH, TILE)  # (down, across, C, 6, 6)
        patches = patches.permute(3, 4, 0, 1, 2)  # (6, 6, down, across, C)
        for row in range(0, height // TILE, rows_at_once):
            rows = slice(row, row + rows_at_once)
            moved = transforms.patches @ patches[:, :, rows].reshape(PATCH**2, -1)  # (36, tiles · C)
            product = torch.bmm(moved.view(PATCH**2, -1, channels), filters)  # (36, tiles, K)
            tiles = transforms.tiles @ product.view(PATCH**2, -1)  # (16, tiles · K)
            tiles = tiles.view(TILE, TILE, -1, across, out_channels).permute(2, 0, 3, 1, 4)
            if bias is None:
                tiles_out[rows] = tiles
            else:
                torch.add(tiles, bias, out=tiles_out[rows])
    return out.view(batch, height, width, out_channels).permute(0, 3, 1, 2)
