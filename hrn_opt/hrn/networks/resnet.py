"""The ResNet-50 (He et al. 2015) that the coefficients and the detector both start with, batch norms folded."""

from __future__ import annotations

from torch import Tensor, nn

from hrn_opt.hrn.networks.folding import ConvSource
from hrn_opt.hrn.networks.layers import Conv

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
        widened: Tensor = self.conv3(x)
        return widened.add_(shortcut).relu_()


def stages(width: int) -> nn.ModuleList:
    """The four stages behind a stem of `width` channels; each halves the picture but the first."""
    modules = nn.ModuleList()
    channels = width
    for stage, count in enumerate(BLOCKS_PER_STAGE):
        inner = width << stage
        blocks = nn.Sequential()
        for block in range(count):
            blocks.append(Bottleneck(channels, inner, stride=2 if stage > 0 and block == 0 else 1))
            channels = inner * EXPANSION
        modules.append(blocks)
    return modules


def sources(width: int, prefix: str) -> dict[str, ConvSource]:
    """Where the convolutions come from, by our name; prefix: of the published names."""
    found = {"stem": ConvSource(f"{prefix}.conv1", (width, 3, 7, 7), f"{prefix}.bn1", bias=False)}
    channels = width
    for stage, blocks in enumerate(BLOCKS_PER_STAGE):
        inner = width << stage
        outer = inner * EXPANSION
        for block in range(blocks):
            theirs, ours = f"{prefix}.layer{stage + 1}.{block}", f"stages.{stage}.{block}"
            shapes = ((inner, channels, 1, 1), (inner, inner, 3, 3), (outer, inner, 1, 1))
            for index, shape in enumerate(shapes, start=1):
                names = f"{theirs}.conv{index}", f"{theirs}.bn{index}"
                found[f"{ours}.conv{index}"] = ConvSource(names[0], shape, names[1], bias=False)
            if block == 0:
                names = f"{theirs}.downsample.0", f"{theirs}.downsample.1"
                found[f"{ours}.downsample"] = ConvSource(names[0], (outer, channels, 1, 1), names[1], bias=False)
            channels = outer
    return found
