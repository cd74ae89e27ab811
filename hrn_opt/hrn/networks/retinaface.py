"""RetinaFace with a ResNet-50: where the faces of a 512 px picture are.

Layers: skin_retouching/retinaface/{network,net}.py of the published code. Here the batch norms are folded, convolutions
that read the same input are one, and the head for five points, which nobody reads, is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hrn_opt.hrn.networks import resnet
from hrn_opt.hrn.networks.folding import ConvSource, conv_size, fold
from hrn_opt.hrn.networks.layers import Conv, network_input

ANCHORS_PER_CELL = 2
STRIDES = (8, 16, 32)  # px between the cells of the three grids


@dataclass(frozen=True)
class RawFaces:
    """One row an anchor: grid after grid, row after row, cell after cell, the smaller anchor first.

    logits: (B, N, 2) float32, no face and face.
    offsets: (B, N, 4) float32, of the box against the anchor.
    """

    logits: Tensor
    offsets: Tensor


class _Context(nn.Module):
    """SSH: 3×3, 5×5 and 7×7 surroundings, the larger ones as stacks of 3×3."""

    def __init__(self, channels: int):
        super().__init__()
        quarter = channels // 4
        self.first = Conv(channels, 3 * quarter, 3, padding=1)  # the 3×3 branch, and what 5×5 and 7×7 share
        self.second = Conv(quarter, 2 * quarter, 3, padding=1)  # the 5×5 branch, and what 7×7 goes on with
        self.third = Conv(quarter, quarter, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        half, quarter = 2 * self.third.out_channels, self.third.out_channels
        near, shared = self.first(x).relu_().split([half, quarter], 1)
        middle, shared = self.second(shared).relu_().split(quarter, 1)
        return torch.cat([near, middle, self.third(shared).relu_()], 1)  # (B, C, h, w)


class RetinaFace(nn.Module):
    """width: channels behind the stem, 64 as published.
    channels: of the pyramid, 256 as published.
    """

    def __init__(self, width: int = 64, channels: int = 256):
        super().__init__()
        self.stem = Conv(3, width, 7, 2, padding=3)
        self.stages = resnet.stages(width)
        inputs = [(width << stage) * resnet.EXPANSION for stage in (1, 2, 3)]
        self.lateral = nn.ModuleList(Conv(size, channels, 1) for size in inputs)
        self.merge = nn.ModuleList(Conv(channels, channels, 3, padding=1) for _ in inputs[:2])
        self.context = nn.ModuleList(_Context(channels) for _ in inputs)
        self.heads = nn.ModuleList(Conv(channels, ANCHORS_PER_CELL * 6, 1) for _ in inputs)

    @staticmethod
    def sized_for(tensors: Mapping[str, Tensor]) -> RetinaFace:
        """An empty network as wide as our `tensors`."""
        return RetinaFace(conv_size(tensors, "stem.weight")[0], conv_size(tensors, "merge.0.weight")[0])

    def forward(self, image: Tensor) -> RawFaces:
        """image: (B, 3, 512, 512) float32 RGB, less the ImageNet mean, over its deviation."""
        maps = self._pyramid(network_input(image, self.stem.weight))
        rows = [self._rows(level, features) for level, features in enumerate(maps)]
        table = torch.cat(rows, 1).float()  # (B, N, 6)
        return RawFaces(table[..., :2], table[..., 2:])

    def _pyramid(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = F.max_pool2d(self.stem(x).relu_(), 3, stride=2, padding=1)  # (B, 64, 128, 128)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        fine, middle, coarse = (conv(x).relu_() for conv, x in zip(self.lateral, features[1:], strict=True))
        middle = self.merge[1](middle.add_(F.interpolate(coarse, middle.shape[2:]))).relu_()
        fine = self.merge[0](fine.add_(F.interpolate(middle, fine.shape[2:]))).relu_()
        return fine, middle, coarse  # (B, 256, 64, 64), 32, 16

    def _rows(self, level: int, features: Tensor) -> Tensor:
        """(B, h·w·2, 6): two logits and four offsets of each anchor of one grid."""
        maps = self.heads[level](self.context[level](features)).permute(0, 2, 3, 1)  # (B, h, w, 12)
        logits, offsets = maps.split([2 * ANCHORS_PER_CELL, 4 * ANCHORS_PER_CELL], -1)
        parts = (logits.unflatten(-1, (-1, 2)), offsets.unflatten(-1, (-1, 4)))
        return torch.cat(parts, -1).flatten(1, 3)


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """RetinaFace's tensors from retinaface_resnet50_2020-07-20_old_torch.pth."""
    state = {key.removeprefix("module."): tensor for key, tensor in state.items()}
    width = conv_size(state, "body.conv1.weight")[0]
    channels = conv_size(state, "fpn.output1.0.weight")[0]
    folded = fold(state, resnet.sources(width, "body") | _pyramid_sources(width, channels))
    for level in range(len(STRIDES)):
        folded |= _stacked(fold(state, _context_sources(level, channels)), f"context.{level}")
        folded |= _stacked(fold(state, _head_sources(level, channels)), f"heads.{level}")
    return folded


def _stacked(parts: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Convolutions named `NAME/PART` as one convolution `PREFIX.NAME` (or `PREFIX`) with their outputs in order."""
    groups: dict[str, list[Tensor]] = {}
    for key, tensor in parts.items():
        path, kind = key.rsplit(".", 1)
        name = path.split("/")[0]
        groups.setdefault(".".join(filter(None, [prefix, name, kind])), []).append(tensor)
    return {name: torch.cat(tensors) for name, tensors in groups.items()}


def _normed(name: str, shape: tuple[int, int, int, int]) -> ConvSource:
    """A convolution and its norm as the published pyramid numbers them."""
    return ConvSource(f"{name}.0", shape, f"{name}.1", bias=False)


def _pyramid_sources(width: int, channels: int) -> dict[str, ConvSource]:
    inputs = [(width << stage) * resnet.EXPANSION for stage in (1, 2, 3)]
    lateral = {f"lateral.{i}": _normed(f"fpn.output{i + 1}", (channels, inputs[i], 1, 1)) for i in range(3)}
    merge = {f"merge.{i}": _normed(f"fpn.merge{i + 1}", (channels, channels, 3, 3)) for i in range(2)}
    return lateral | merge


def _context_sources(level: int, channels: int) -> dict[str, ConvSource]:
    theirs, half, quarter = f"ssh{level + 1}", channels // 2, channels // 4
    return {
        "first/near": _normed(f"{theirs}.conv3X3", (half, channels, 3, 3)),
        "first/shared": _normed(f"{theirs}.conv5X5_1", (quarter, channels, 3, 3)),
        "second/middle": _normed(f"{theirs}.conv5X5_2", (quarter, quarter, 3, 3)),
        "second/shared": _normed(f"{theirs}.conv7X7_2", (quarter, quarter, 3, 3)),
        "third": _normed(f"{theirs}.conv7x7_3", (quarter, quarter, 3, 3)),
    }


def _head_sources(level: int, channels: int) -> dict[str, ConvSource]:
    shapes = {"ClassHead": 2 * ANCHORS_PER_CELL, "BboxHead": 4 * ANCHORS_PER_CELL}
    return {f"/{name}": ConvSource(f"{name}.{level}.conv1x1", (size, channels, 1, 1)) for name, size in shapes.items()}
