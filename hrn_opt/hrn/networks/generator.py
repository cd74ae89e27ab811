"""The image-to-image generator behind HRN's deformation map (64², 6 → 3) and displacement map (256², 9 → 1).

Layers: `models/pix2pix/networks.py` of the published code with its options (resnet_9blocks, 64 filters, instance norm,
reflecting borders; its dropout is for training only). A bias in front of an instance norm cancels, so none is kept.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hrn_opt.hrn.networks.folding import conv_size, take
from hrn_opt.hrn.networks.layers import Conv, Conv3x3, TransposedConv, network_input

BLOCKS = 9
EDGE_KERNEL = 7  # of the first and the last convolution


def instance_norm(x: Tensor) -> Tensor:
    """Every channel of every picture with mean 0 and variance 1, as F.instance_norm, at any batch size.

    A batch norm in training over one picture is the same sum, and five times as fast on channels_last.
    """
    if x.shape[0] == 1:
        return F.batch_norm(x, None, None, training=True)
    return torch.cat([F.batch_norm(picture, None, None, training=True) for picture in x.split(1)])


class Residual(nn.Module):
    """Two 3×3 convolutions with reflecting borders and instance norms, added to what came in."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = Conv3x3(channels, channels, "reflect", bias=False)
        self.conv2 = Conv3x3(channels, channels, "reflect", bias=False)

    def forward(self, x: Tensor) -> Tensor:
        inner = instance_norm(self.conv1(x)).relu_()
        return instance_norm(self.conv2(inner)).add_(x)


class RowwiseConv(Conv):
    """A 7×7 convolution to few channels: 1×7 to seven times as many, shifted by their row and added up.

    Five times as fast on a CPU, whose convolutions want many output channels; the same sum.
    """

    def __init__(self, channels: int, out_channels: int):
        super().__init__(channels, EDGE_KERNEL * out_channels, (1, EDGE_KERNEL), bias=False)
        self.offset = nn.Parameter(torch.empty(1, out_channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, out, H - 6, W - 6) float32."""
        height = x.shape[2] - EDGE_KERNEL + 1
        rows: Tensor = super().forward(x).unflatten(1, (EDGE_KERNEL, -1))  # (B, 7, out, H, W - 6)
        total = self.offset.float() + rows[:, 0, :, :height]
        for row in range(1, EDGE_KERNEL):
            total += rows[:, row, :, row : row + height]
        return total


class DetailGenerator(nn.Module):
    """width: channels at full size; 64 as published."""

    def __init__(self, channels: int, out_channels: int, width: int = 64):
        super().__init__()
        self.stem = Conv(channels, width, EDGE_KERNEL, bias=False)
        self.down = nn.ModuleList(Conv(w, 2 * w, 3, 2, padding=1, bias=False) for w in (width, 2 * width))
        self.blocks = nn.Sequential(*(Residual(4 * width) for _ in range(BLOCKS)))
        self.up = nn.ModuleList(
            TransposedConv(w, w // 2, 3, 2, padding=1, output_padding=1, bias=False) for w in (4 * width, 2 * width)
        )
        self.out = RowwiseConv(width, out_channels)

    @staticmethod
    def sized_for(tensors: Mapping[str, Tensor]) -> DetailGenerator:
        """An empty network of the channels and width of our `tensors`."""
        width, channels, _, _ = conv_size(tensors, "stem.weight")
        return DetailGenerator(channels, conv_size(tensors, "out.weight")[0] // EDGE_KERNEL, width)

    def forward(self, maps: Tensor) -> Tensor:
        """The predicted map, (B, out, H, W) float32 in -1..1.

        maps: (B, in, H, W) float32: position and texture (-1..1), for the displacement also the deformation.
        """
        x = F.pad(network_input(maps, self.stem.weight), (EDGE_KERNEL // 2,) * 4, mode="reflect")
        x = instance_norm(self.stem(x)).relu_()  # (B, 64, H, W)
        for conv in self.down:
            x = instance_norm(conv(x)).relu_()  # (B, 256, H/4, W/4) at the end
        x = self.blocks(x)
        for conv in self.up:
            x = instance_norm(conv(x)).relu_()  # (B, 64, H, W) at the end
        predicted: Tensor = self.out(F.pad(x, (EDGE_KERNEL // 2,) * 4, mode="reflect"))
        return predicted.tanh_()


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """DetailGenerator's tensors from `mid_net` or `high_net` of pytorch_model.pt."""
    width, channels, _, _ = conv_size(state, "model.1.weight")
    last = f"model.{17 + BLOCKS}"
    out_channels = conv_size(state, f"{last}.weight")[0]
    shapes = {
        "stem": ("model.1", (width, channels, EDGE_KERNEL, EDGE_KERNEL)),
        "down.0": ("model.4", (2 * width, width, 3, 3)),
        "down.1": ("model.7", (4 * width, 2 * width, 3, 3)),
        "up.0": (f"model.{10 + BLOCKS}", (4 * width, 2 * width, 3, 3)),
        "up.1": (f"model.{13 + BLOCKS}", (2 * width, width, 3, 3)),
    }
    for block in range(BLOCKS):
        for ours, theirs in (("conv1", 1), ("conv2", 6)):
            name = f"model.{10 + block}.conv_block.{theirs}"
            shapes[f"blocks.{block}.{ours}"] = (name, (4 * width, 4 * width, 3, 3))
    tensors = {f"{ours}.weight": take(state, f"{name}.weight", shape).float() for ours, (name, shape) in shapes.items()}
    square = take(state, f"{last}.weight", (out_channels, width, EDGE_KERNEL, EDGE_KERNEL)).float()
    tensors["out.weight"] = square.permute(2, 0, 1, 3).reshape(-1, width, 1, EDGE_KERNEL)  # (7·out, 64, 1, 7)
    tensors["out.offset"] = take(state, f"{last}.bias", (out_channels,)).float().view(1, -1, 1, 1)
    return tensors
