"""The ResNet-50 that reads HRN's 257 coefficients off an aligned face.

Layers: `models/networks.py` of the published code (torchvision's ResNet-50, stride in the 3×3), seven 1×1 heads behind
it; here the batch norms are folded into the convolutions and the heads are one matrix.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hrn_opt.hrn.networks.folding import ConvSource, conv_size, fold, take
from hrn_opt.hrn.networks.layers import Conv, network_input

HEAD_SIZES = (80, 64, 80, 3, 27, 2, 1)  # identity, expression, albedo, angles, SH light, translation x and y, z
COEFFICIENT_COUNT = sum(HEAD_SIZES)
BLOCKS_PER_STAGE = (3, 4, 6, 3)
EXPANSION = 4  # a bottleneck's output channels over its inner ones


class Bottleneck(nn.Module):
    """1×1, 3×3 (with the stride), 1×1, and a shortcut."""

    def __init__(self, channels: int, inner: int, stride: int):
        super().__init__()
        self.conv1 = Conv(channels, inner, 1)
        self.conv2 = Conv(inner, inner, 3, stride, padding=1)
        self.conv3 = Conv(inner, inner * EXPANSION, 1)
        self.downsample = Conv(channels, inner * EXPANSION, 1, stride) if channels != inner * EXPANSION else None

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.conv2(self.conv1(x).relu_()).relu_()
        return self.conv3(x).add_(shortcut).relu_()


class ReconNet(nn.Module):
    """width: channels behind the stem; 64 as published."""

    def __init__(self, width: int = 64):
        super().__init__()
        self.stem = Conv(3, width, 7, 2, padding=3)
        self.stages = nn.ModuleList()
        channels = width
        for stage, blocks in enumerate(BLOCKS_PER_STAGE):
            inner = width << stage
            self.stages.append(nn.Sequential())
            for block in range(blocks):
                self.stages[-1].append(Bottleneck(channels, inner, stride=2 if stage > 0 and block == 0 else 1))
                channels = inner * EXPANSION
        self.heads = Conv(channels, COEFFICIENT_COUNT, 1)

    @staticmethod
    def sized_for(tensors: Mapping[str, Tensor]) -> ReconNet:
        """An empty network as wide as our `tensors`."""
        return ReconNet(width=conv_size(tensors, "stem.weight")[0])

    def forward(self, image: Tensor) -> Tensor:
        """The coefficients, (B, 257) float32, in the order of HEAD_SIZES.

        image: (B, 3, 224, 224) float32 RGB in 0..1.
        """
        x = self.stem(network_input(image, self.stem.weight)).relu_()  # (B, 64, 112, 112)
        x = F.max_pool2d(x, 3, stride=2, padding=1)  # (B, 64, 56, 56)
        for stage in self.stages:
            x = stage(x)  # (B, 2048, 7, 7) at the end
        return self.heads(x.mean(dim=(2, 3), keepdim=True)).flatten(1).float()  # (B, 257)


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """ReconNet's tensors from `net_recon` of pytorch_model.pt."""
    width = conv_size(state, "backbone.conv1.weight")[0]
    folded = fold(state, _sources(width))
    features = (width << 3) * EXPANSION
    heads = [f"final_layers.{index}" for index in range(len(HEAD_SIZES))]
    sized = list(zip(heads, HEAD_SIZES, strict=True))
    weights = [take(state, f"{head}.weight", (size, features, 1, 1)) for head, size in sized]
    biases = [take(state, f"{head}.bias", (size,)) for head, size in sized]
    return folded | {"heads.weight": torch.cat(weights).float(), "heads.bias": torch.cat(biases).float()}


def _sources(width: int) -> dict[str, ConvSource]:
    """Where the backbone's convolutions come from, by our name."""
    sources = {"stem": ConvSource("backbone.conv1", (width, 3, 7, 7), "backbone.bn1", bias=False)}
    channels = width
    for stage, blocks in enumerate(BLOCKS_PER_STAGE):
        inner = width << stage
        outer = inner * EXPANSION
        for block in range(blocks):
            theirs, ours = f"backbone.layer{stage + 1}.{block}", f"stages.{stage}.{block}"
            shapes = ((inner, channels, 1, 1), (inner, inner, 3, 3), (outer, inner, 1, 1))
            for index, shape in enumerate(shapes, start=1):
                names = f"{theirs}.conv{index}", f"{theirs}.bn{index}"
                sources[f"{ours}.conv{index}"] = ConvSource(names[0], shape, names[1], bias=False)
            if block == 0:
                names = f"{theirs}.downsample.0", f"{theirs}.downsample.1"
                sources[f"{ours}.downsample"] = ConvSource(names[0], (outer, channels, 1, 1), names[1], bias=False)
            channels = outer
    return sources
