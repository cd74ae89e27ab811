"""The UNet that predicts de-retouching's blend layer.

Layers: `models/unet.py` of the published code, two 3×3 convolutions a level, upsampling with aligned corners; its
batch norms are folded into the convolutions, its deep-supervision heads are for training only and left out.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hrn_opt.hrn.networks.folding import ConvSource, conv_size, fold
from hrn_opt.hrn.networks.layers import Conv, Conv3x3, network_input

DOWNSAMPLINGS = 4
# Per level: channels in (skip connection included) and out, as multiples of the width, and our and the published name.
LEVELS = (
    ("down.0", "inc.conv.conv", 0, 1),  # the picture's three channels in
    ("down.1", "down1.mpconv.1.conv", 1, 2),
    ("down.2", "down2.mpconv.1.conv", 2, 4),
    ("down.3", "down3.mpconv.1.conv", 4, 8),
    ("down.4", "down4.mpconv.1.conv", 8, 8),
    ("up.0", "up1.conv.conv", 16, 4),
    ("up.1", "up2.conv.conv", 8, 2),
    ("up.2", "up3.conv.conv", 4, 1),
    ("up.3", "up4.conv.conv", 2, 1),
)
PICTURE_CHANNELS = 3


class DoubleConv(nn.Module):
    """3×3 and ReLU, twice."""

    def __init__(self, channels: int, out_channels: int):
        super().__init__()
        self.conv1 = Conv3x3(channels, out_channels)
        self.conv2 = Conv3x3(out_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        twice: Tensor = self.conv2(self.conv1(x).relu_())
        return twice.relu_()


class DeRetouchNet(nn.Module):
    """width: channels at full size; 64 as published."""

    def __init__(self, width: int = 64):
        super().__init__()
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for name, _, times_in, times_out in LEVELS:
            side = self.down if name.startswith("down") else self.up
            side.append(DoubleConv(width * times_in or PICTURE_CHANNELS, width * times_out))
        self.out = Conv(width, PICTURE_CHANNELS, 1)

    @staticmethod
    def sized_for(tensors: Mapping[str, Tensor]) -> DeRetouchNet:
        """An empty network as wide as our `tensors`."""
        return DeRetouchNet(width=conv_size(tensors, "down.0.conv1.weight")[0])

    def forward(self, texture: Tensor) -> Tensor:
        """The blend layer, (B, 3, H, W) float32 in 0..1.

        texture: (B, 3, H, W) float32 RGB in -1..1; H and W are multiples of 16, 512 as published.
        """
        height, width = texture.shape[2:]
        if height % (1 << DOWNSAMPLINGS) or width % (1 << DOWNSAMPLINGS):
            raise ValueError(f"sides must be multiples of {1 << DOWNSAMPLINGS}, got {height}×{width}")
        x = self.down[0](network_input(texture, self.out.weight))  # (B, 64, H, W)
        skips = []
        for level in self.down[1:]:
            skips.append(x)
            x = level(F.max_pool2d(x, 2))  # half the side; (B, 512, H/16, W/16) at the end
        for level in self.up:
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
            x = level(torch.cat([skips.pop(), x], dim=1))  # twice the side; (B, 64, H, W) at the end
        layer: Tensor = self.out(x)
        return layer.float().sigmoid_()


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """DeRetouchNet's tensors from `generator` of de_retouching_model.pth."""
    width = conv_size(state, "inc.conv.conv.0.weight")[0]
    sources = {"out": ConvSource("outc.conv", (PICTURE_CHANNELS, width, 1, 1))}
    for ours, theirs, times_in, times_out in LEVELS:
        inner = width * times_out
        first = (inner, width * times_in or PICTURE_CHANNELS, 3, 3)
        sources[f"{ours}.conv1"] = ConvSource(f"{theirs}.0", first, f"{theirs}.1")
        sources[f"{ours}.conv2"] = ConvSource(f"{theirs}.3", (inner, inner, 3, 3), f"{theirs}.4")
    return fold(state, sources)
