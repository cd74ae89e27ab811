"""The network that places 106 points on a 224 px crop of a face.

Layers: facelandmark/nets/large_base_lmks_net.py of the published code, batch norms folded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hrn_opt.hrn.networks.folding import ConvSource, conv_size, fold, take
from hrn_opt.hrn.networks.layers import Conv, network_input

POINT_COUNT = 106


@dataclass(frozen=True)
class _Block:
    """An inverted residual: outputs and inner channels in widths of the stem, stride, whether it adds its input."""

    outputs: int
    inner: int
    stride: int = 1
    residual: bool = False


# Blocks 2 to 17 of the published network.
BLOCKS = (
    _Block(1, 2),
    _Block(1, 2, stride=2),
    *(_Block(1, 2, residual=True) for _ in range(4)),
    _Block(2, 2, stride=2),
    _Block(2, 8),
    *(_Block(2, 8, residual=True) for _ in range(5)),
    _Block(2, 4),
    _Block(2, 4, stride=2),
    _Block(2, 4),
)


class _InvertedResidual(nn.Module):
    def __init__(self, block: _Block, inputs: int, width: int):
        super().__init__()
        inner, self.residual = block.inner * width, block.residual
        self.expand = Conv(inputs, inner, 1)
        self.expand_slope = _slopes(inner)
        self.depthwise = Conv(inner, inner, 3, block.stride, padding=1, groups=inner)
        self.depthwise_slope = _slopes(inner)
        self.project = Conv(inner, block.outputs * width, 1)

    def forward(self, x: Tensor) -> Tensor:
        inner = F.prelu(self.expand(x), self.expand_slope)
        outer: Tensor = self.project(F.prelu(self.depthwise(inner), self.depthwise_slope))
        return outer.add_(x) if self.residual else outer


def _slopes(channels: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(channels))


class Landmarks106(nn.Module):
    """width: channels behind the stem; 64 as published."""

    def __init__(self, width: int = 64):
        super().__init__()
        self.stem = Conv(3, width, 3, 2, padding=1)
        self.stem_slope = _slopes(width)
        self.blocks = nn.Sequential()
        channels = width
        for block in BLOCKS:
            self.blocks.append(_InvertedResidual(block, channels, width))
            channels = block.outputs * width
        self.tail = Conv(channels, 4 * width, 3, padding=1)
        self.tail_slope = _slopes(4 * width)
        self.heatmaps = Conv(4 * width, POINT_COUNT, 3, padding=1, bias=False)

    @staticmethod
    def sized_for(tensors: Mapping[str, Tensor]) -> Landmarks106:
        """An empty network as wide as our `tensors`."""
        return Landmarks106(conv_size(tensors, "stem.weight")[0])

    def forward(self, image: Tensor) -> Tensor:
        """The points, (B, 106, 2) float32 as (x, y) in 0..1 of the crop.

        image: (B, 3, 224, 224) float32.
        """
        x = network_input(image, self.stem.weight)
        x = F.prelu(self.stem(x), self.stem_slope)  # (B, 64, 112, 112)
        x = F.prelu(self.tail(self.blocks(x)), self.tail_slope)  # (B, 256, 14, 14)
        return _mean_position(self.heatmaps(x).float())


def _mean_position(heatmaps: Tensor) -> Tensor:
    """(B, K, 2) expected positions of (B, K, h, w) heatmaps under their softmax, over their size."""
    height, width = heatmaps.shape[2:]
    weight = heatmaps.flatten(2).softmax(2).unflatten(2, (height, width))
    down, across = torch.arange(height, device=weight.device), torch.arange(width, device=weight.device)
    # PARITY: the published network was trained with its maps transposed: rows count x; test_detectors.py pins it.
    x = (weight * down[:, None]).sum((2, 3)) / width
    y = (weight * across).sum((2, 3)) / height
    return torch.stack([x, y], -1)


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Landmarks106's tensors from `state_dict` of large_base_net.pth."""
    state = {key.removeprefix("module."): tensor for key, tensor in state.items()}
    width = conv_size(state, "block1.0.weight")[0]
    sources = {"stem": ConvSource("block1.0", (width, 3, 3, 3), "block1.1", bias=False)}
    slopes = {"stem_slope": take(state, "block1.2.weight", (width,))}
    channels = width
    for index, block in enumerate(BLOCKS):
        theirs, ours = f"block{index + 2}.conv", f"blocks.{index}"
        inner, outputs = block.inner * width, block.outputs * width
        layers = {"expand": (0, (inner, channels, 1, 1)), "depthwise": (3, (inner, 1, 3, 3))}
        layers["project"] = (6, (outputs, inner, 1, 1))
        for name, (number, shape) in layers.items():
            sources[f"{ours}.{name}"] = ConvSource(f"{theirs}.{number}", shape, f"{theirs}.{number + 1}", bias=False)
        for name, number in (("expand", 2), ("depthwise", 5)):
            slopes[f"{ours}.{name}_slope"] = take(state, f"{theirs}.{number}.weight", (inner,))
        channels = outputs
    sources["tail"] = ConvSource("block18.0", (4 * width, channels, 3, 3), "block18.1", bias=False)
    slopes["tail_slope"] = take(state, "block18.2.weight", (4 * width,))
    heatmaps = take(state, "block19.weight", (POINT_COUNT, 4 * width, 3, 3)).float()
    slopes = {name: slope.float() for name, slope in slopes.items()}
    return fold(state, sources) | slopes | {"heatmaps.weight": heatmaps}
