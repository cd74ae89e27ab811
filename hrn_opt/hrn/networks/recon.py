"""The ResNet-50 that reads HRN's 257 coefficients off an aligned face.

Layers: `models/networks.py` of the published code (torchvision's ResNet-50, stride in the 3×3), seven 1×1 heads behind
it; here the batch norms are folded into the convolutions and the heads are one matrix.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hrn_opt.hrn.frames import COEFFICIENT_COUNT, COEFFICIENTS
from hrn_opt.hrn.networks import resnet
from hrn_opt.hrn.networks.folding import conv_size, fold, take
from hrn_opt.hrn.networks.layers import Conv, network_input

# PARITY: translation has two heads, x and y, then z; test_networks.py pins it.
HEAD_SIZES = (*tuple(COEFFICIENTS.values())[:-1], 2, 1)


class ReconNet(nn.Module):
    """width: channels behind the stem; 64 as published."""

    def __init__(self, width: int = 64):
        super().__init__()
        self.stem = Conv(3, width, 7, 2, padding=3)
        self.stages = resnet.stages(width)
        channels = (width << 3) * resnet.EXPANSION
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
        coefficients: Tensor = self.heads(x.mean(dim=(2, 3), keepdim=True))  # (B, 257, 1, 1)
        return coefficients.flatten(1).float()  # (B, 257)


def from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """ReconNet's tensors from `net_recon` of pytorch_model.pt."""
    width = conv_size(state, "backbone.conv1.weight")[0]
    folded = fold(state, resnet.sources(width, "backbone"))
    features = (width << 3) * resnet.EXPANSION
    heads = [f"final_layers.{index}" for index in range(len(HEAD_SIZES))]
    sized = list(zip(heads, HEAD_SIZES, strict=True))
    weights = [take(state, f"{head}.weight", (size, features, 1, 1)) for head, size in sized]
    biases = [take(state, f"{head}.bias", (size,)) for head, size in sized]
    return folded | {"heads.weight": torch.cat(weights).float(), "heads.bias": torch.cat(biases).float()}
