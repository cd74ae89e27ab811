"""What the networks share: convolutions that are always loaded."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hrn_opt.hrn.networks import winograd

Border = Literal["zeros", "reflect"]


class Conv(nn.Conv2d):
    """A convolution whose weights are always loaded: random ones would only cost time."""

    def reset_parameters(self) -> None:
        pass


class Conv3x3(Conv):
    """A 3×3 convolution that keeps the size, the quickest way the machine allows.

    padding_mode: "zeros" or "reflect".
    """

    def __init__(self, channels: int, out_channels: int, padding_mode: Border = "zeros", bias: bool = True):
        super().__init__(channels, out_channels, 3, padding=1, padding_mode=padding_mode, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        if not winograd.is_faster(x, self.weight):
            return super().forward(x)
        border = "constant" if self.padding_mode == "zeros" else self.padding_mode
        return winograd.conv3x3(F.pad(x, (1, 1, 1, 1), mode=border), self.weight, self.bias)


class TransposedConv(nn.ConvTranspose2d):
    """A transposed convolution whose weights are always loaded."""

    def reset_parameters(self) -> None:
        pass


def network_input(x: Tensor, network_weight: Tensor) -> Tensor:
    """`x` in the precision of the network's weights, channels_last.

    Where the weights lie is not asked: offloaded ones are on "meta" until the layer that owns them runs.
    """
    return x.to(network_weight.dtype, memory_format=torch.channels_last)
