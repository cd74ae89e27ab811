"""S3FD: a VGG-16 that finds faces at six scales; here it finds the one in a crop.

Layers: detection/sfd/net_s3fd.py of face-alignment 1.4. Each grid's two heads are one convolution, and the per-channel
weight of the norm before it is folded into it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hrn_opt.hrn.networks.folding import ConvSource, conv_size, fold, take
from hrn_opt.hrn.networks.layers import Conv, network_input

STAGES = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))  # VGG-16: channels in widths of the first stage, convolutions
NORM_EPS = 1e-10
_BACKGROUNDS = 3  # the finest grid has three logits for "no face", of which the largest counts


class S3FD(nn.Module):
    """width: channels of the first stage; 64 as published."""

    def __init__(self, width: int = 64):
        super().__init__()
        self.stages = nn.ModuleList()
        channels = 3
        for factor, count in STAGES:
            convs = nn.ModuleList()
            for _ in range(count):
                convs.append(Conv(channels, factor * width, 3, padding=1))
                channels = factor * width
            self.stages.append(convs)
        self.fc6 = Conv(channels, 16 * width, 3, padding=3)
        self.fc7 = Conv(16 * width, 16 * width, 1)
        self.conv6_1 = Conv(16 * width, 4 * width, 1)
        self.conv6_2 = Conv(4 * width, 8 * width, 3, 2, padding=1)
        self.conv7_1 = Conv(8 * width, 2 * width, 1)
        self.conv7_2 = Conv(2 * width, 4 * width, 3, 2, padding=1)
        sizes = [4, 8, 8, 16, 8, 4]
        outputs = [_BACKGROUNDS + 5, 6, 6, 6, 6, 6]
        self.heads = nn.ModuleList(
            Conv(size * width, count, 3, padding=1) for size, count in zip(sizes, outputs, strict=True)
        )

    @staticmethod
    def sized_for(tensors: Mapping[str, Tensor]) -> S3FD:
        """An empty network as wide as our `tensors`."""
        return S3FD(conv_size(tensors, "stages.0.0.weight")[0])

    def forward(self, image: Tensor) -> list[Tensor]:
        """For each of six grids (B, 6, h, w) float32: logits of no face and face, then the box's four offsets.

        image: (B, 3, H, W) float32 BGR in 0..255, less the mean. Cells lie 4, 8, ... 128 px apart.
        """
        grids = []
        x = network_input(image, self.fc7.weight)
        for index, stage in enumerate(self.stages):
            for conv in stage.children():
                x = conv(x).relu_()
            if index >= 2:
                grids.append(_unit_length(x))
            x = F.max_pool2d(x, 2, 2)
        x = self.fc7(self.fc6(x).relu_()).relu_()
        grids.append(x)
        x = self.conv6_2(self.conv6_1(x).relu_()).relu_()
        grids.append(x)
        grids.append(self.conv7_2(self.conv7_1(x).relu_()).relu_())
        finest, *others = (head(grid).float() for head, grid in zip(self.heads, grids, strict=True))
        background = finest[:, :_BACKGROUNDS].amax(1, keepdim=True)
        return [torch.cat([background, finest[:, _BACKGROUNDS:]], 1), *others]


def _unit_length(x: Tensor) -> Tensor:
    # Summed in float32: half precision overflows at 256 squared activations.
    length: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=torch.float32)
    return x / (length + NORM_EPS).to(x.dtype)


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """S3FD's tensors from s3fd-619a316812.pth."""
    width = conv_size(state, "conv1_1.weight")[0]
    folded = fold(state, _sources(width))
    grids = ["conv3_3_norm", "conv4_3_norm", "conv5_3_norm", "fc7", "conv6_2", "conv7_2"]
    for index, (grid, factor) in enumerate(zip(grids, (4, 8, 8, 16, 8, 4), strict=True)):
        channels, classes = factor * width, _BACKGROUNDS + 1 if index == 0 else 2
        sources = {
            part: ConvSource(f"{grid}_mbox_{part}", (count, channels, 3, 3))
            for part, count in (("conf", classes), ("loc", 4))
        }
        head = fold(state, sources)
        weight = torch.cat([head["conf.weight"], head["loc.weight"]])
        if grid.endswith("norm"):
            weight = weight * take(state, f"{grid}.weight", (channels,)).float().view(1, -1, 1, 1)
        folded[f"heads.{index}.weight"] = weight
        folded[f"heads.{index}.bias"] = torch.cat([head["conf.bias"], head["loc.bias"]])
    return folded


def _sources(width: int) -> dict[str, ConvSource]:
    sources, channels = {}, 3
    for stage, (factor, count) in enumerate(STAGES):
        for index in range(count):
            shape = (factor * width, channels, 3, 3)
            sources[f"stages.{stage}.{index}"] = ConvSource(f"conv{stage + 1}_{index + 1}", shape)
            channels = factor * width
    tail = {
        "fc6": (16, channels // width, 3),
        "fc7": (16, 16, 1),
        "conv6_1": (4, 16, 1),
        "conv6_2": (8, 4, 3),
        "conv7_1": (2, 8, 1),
        "conv7_2": (4, 2, 3),
    }
    for name, (outputs, inputs, kernel) in tail.items():
        sources[name] = ConvSource(name, (outputs * width, inputs * width, kernel, kernel))
    return sources
