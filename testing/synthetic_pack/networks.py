"""Made-up checkpoints in the published layout: seeded random weights under the published names and shapes.

The detectors are bent so that `find` runs through: whatever the photo, RetinaFace sees one face in its middle, the
106 and the 68 points lie on a face-like template. They do it without looking: zero padding tells a convolution where
the corner is, so a kernel over a constant channel can answer in the corner's cell alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from hrn_opt.hrn.find.landmarks import FIVE_OF_106, HEATMAP_PX, POINT_COUNT, S3FD_ANCHOR
from hrn_opt.hrn.networks import landmarks106, recon, resnet, s3fd, unet
from hrn_opt.hrn.networks.folding import load_network
from hrn_opt.hrn.networks.generator import BLOCKS, EDGE_KERNEL

# Sizes of the coefficients for a random picture: identity, expression, albedo, angles, light, translation (twice).
_COEFFICIENT_RMS = (0.7, 0.5, 0.7, 0.08, 0.05, 0.05, 0.05)
_GENERATOR_DEVIATION = 0.02  # as pix2pix draws its weights
_CENTRE_VARIANCE, _SIZE_VARIANCE = 0.1, 0.2  # SSD's box coding
_FAR_FROM_A_FACE = 5.0  # logits between "no face" and "face" where there is none
_FACE_BOX_512 = (256.0, 262.0, 200.0, 240.0)  # centre x and y, width and height, px of RetinaFace's input
_FACE_BOX_224 = (112.0, 126.0, 124.0, 134.0)  # the same in S3FD's
_TEMPLATE_SHARE = 1 / 1.35  # of the crop that 106 points span, so that the crop round them is the same again
_CELLS = 14  # a side of the 106-point network's maps


class Weights:
    """Collects one checkpoint's tensors under their published names."""

    def __init__(self, seed: int):
        self._random = torch.Generator().manual_seed(seed)
        self.state: dict[str, Tensor] = {}

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        return torch.empty(shape).uniform_(low, high, generator=self._random)

    def normal(self, deviation: float, *shape: int) -> Tensor:
        return torch.empty(shape).normal_(0, deviation, generator=self._random)

    def conv(self, name: str, *shape: int, bias: bool = False) -> None:
        """Weights of that shape (out, in, height, width), such that a picture's traces do not fade layer by layer."""
        inputs = math.prod(shape[1:])
        bound = math.sqrt(6 / inputs)  # He et al. 2015
        self.state[f"{name}.weight"] = self.uniform(-bound, bound, *shape)
        if bias:
            self.state[f"{name}.bias"] = self.uniform(-1, 1, shape[0]) / math.sqrt(inputs)

    def norm(self, name: str, channels: int, gain: tuple[float, float] = (0.5, 1.0)) -> None:
        self.state[f"{name}.weight"] = self.uniform(*gain, channels)
        self.state[f"{name}.bias"] = self.normal(0.05, channels)
        self.state[f"{name}.running_mean"] = self.normal(0.1, channels)
        self.state[f"{name}.running_var"] = self.uniform(0.6, 1.4, channels)
        self.state[f"{name}.num_batches_tracked"] = torch.tensor(1000)

    def constant_channel(self, norm: str) -> None:
        """Channel 0 behind the batch norm is 1 everywhere."""
        self.state[f"{norm}.weight"][0], self.state[f"{norm}.bias"][0] = 0, 1

    def head(self, name: str, *shape: int, bias: list[float]) -> None:
        """A convolution that answers `bias` everywhere."""
        self.state[f"{name}.weight"] = torch.zeros(shape)
        self.state[f"{name}.bias"] = torch.tensor(bias)


def _resnet50(weights: Weights, prefix: str, width: int) -> None:
    weights.conv(f"{prefix}.conv1", width, 3, 7, 7)
    weights.norm(f"{prefix}.bn1", width)
    channels = width
    for stage, blocks in enumerate(resnet.BLOCKS_PER_STAGE):
        inner = width << stage
        outer = inner * resnet.EXPANSION
        for block in range(blocks):
            name = f"{prefix}.layer{stage + 1}.{block}"
            shapes = ((inner, channels, 1, 1), (inner, inner, 3, 3), (outer, inner, 1, 1))
            for number, shape in enumerate(shapes, start=1):
                weights.conv(f"{name}.conv{number}", *shape)
                # The last norm of a block is small, or sixteen blocks' additions would grow without bound.
                weights.norm(f"{name}.bn{number}", shape[0], (0.1, 0.3) if number == 3 else (0.5, 1.0))
            if block == 0:
                weights.conv(f"{name}.downsample.0", outer, channels, 1, 1)
                weights.norm(f"{name}.downsample.1", outer)
            channels = outer


def recon_state(seed: int, width: int) -> dict[str, Tensor]:
    """`net_recon`: its coefficients for a random picture are about as large as a real face's."""
    weights = Weights(seed)
    _resnet50(weights, "backbone", width)
    features = (width << 3) * resnet.EXPANSION
    for index, size in enumerate(recon.HEAD_SIZES):
        weights.conv(f"final_layers.{index}", size, features, 1, 1, bias=True)
    state = weights.state
    network = load_network(recon.ReconNet, recon.from_official(state))
    coefficients = network(weights.uniform(0, 1, 2, 3, 224, 224)).split(recon.HEAD_SIZES, 1)
    for index, (values, rms) in enumerate(zip(coefficients, _COEFFICIENT_RMS, strict=True)):
        scale = rms / float(values.square().mean().sqrt())
        state[f"final_layers.{index}.weight"] *= scale
        state[f"final_layers.{index}.bias"] *= scale
    return state


def generator_state(seed: int, width: int, channels: int, out_channels: int) -> dict[str, Tensor]:
    """`mid_net` (6 → 3 channels) or `high_net` (9 → 1)."""
    weights = Weights(seed)
    layers = {
        "model.1": (width, channels, EDGE_KERNEL, EDGE_KERNEL),
        "model.4": (2 * width, width, 3, 3),
        "model.7": (4 * width, 2 * width, 3, 3),
        f"model.{10 + BLOCKS}": (4 * width, 2 * width, 3, 3),  # transposed: inputs first
        f"model.{13 + BLOCKS}": (2 * width, width, 3, 3),
        f"model.{17 + BLOCKS}": (out_channels, width, EDGE_KERNEL, EDGE_KERNEL),
    }
    for block in range(BLOCKS):
        layers |= {f"model.{10 + block}.conv_block.{part}": (4 * width, 4 * width, 3, 3) for part in (1, 6)}
    for name, shape in layers.items():
        weights.state[f"{name}.weight"] = weights.normal(_GENERATOR_DEVIATION, *shape)
        outputs = shape[1] if name in (f"model.{10 + BLOCKS}", f"model.{13 + BLOCKS}") else shape[0]
        weights.state[f"{name}.bias"] = weights.normal(_GENERATOR_DEVIATION, outputs)
    return weights.state


def unet_state(seed: int, width: int) -> dict[str, Tensor]:
    """`generator` of the de-retouching checkpoint, with the side outputs that only training reads."""
    weights = Weights(seed)
    for _, name, times_in, times_out in unet.LEVELS:
        inner = width * times_out
        for number, inputs in ((0, width * times_in or unet.PICTURE_CHANNELS), (3, inner)):
            weights.conv(f"{name}.{number}", inner, inputs, 3, 3, bias=True)
            weights.norm(f"{name}.{number + 1}", inner)
    weights.conv("outc.conv", unet.PICTURE_CHANNELS, width, 1, 1, bias=True)
    for level, factor in ((4, 4), (3, 2), (2, 1), (1, 1)):
        weights.conv(f"dsoutc{level}.conv", unet.PICTURE_CHANNELS, width * factor, 1, 1, bias=True)
    return weights.state


def landmarks106_state(seed: int, width: int) -> dict[str, Tensor]:
    """`state_dict` of large_base_net.pth, without its `module.`: the points lie on a template, almost unmoved."""
    weights = Weights(seed)
    weights.conv("block1.0", width, 3, 3, 3)
    weights.norm("block1.1", width)
    weights.state["block1.2.weight"] = weights.uniform(0.1, 0.3, width)
    channels = width
    for index, block in enumerate(landmarks106.BLOCKS, start=2):
        inner, outputs = block.inner * width, block.outputs * width
        shapes = ((inner, channels, 1, 1), (inner, 1, 3, 3), (outputs, inner, 1, 1))
        for number, shape in zip((0, 3, 6), shapes, strict=True):
            weights.conv(f"block{index}.conv.{number}", *shape)
            weights.norm(f"block{index}.conv.{number + 1}", shape[0])
            if number != 6:
                weights.state[f"block{index}.conv.{number + 2}.weight"] = weights.uniform(0.1, 0.3, shape[0])
        channels = outputs
    weights.conv("block18.0", 4 * width, channels, 3, 3)
    weights.norm("block18.1", 4 * width)
    weights.constant_channel("block18.1")
    weights.state["block18.2.weight"] = weights.uniform(0.1, 0.3, 4 * width)
    heatmaps = weights.normal(3e-3, landmarks106.POINT_COUNT, 4 * width, 3, 3)
    heatmaps[:, 0] = _placing_kernels(template_106())
    weights.state["block19.weight"] = heatmaps
    return weights.state


def _placing_kernels(places: np.ndarray) -> Tensor:
    """(K, 3, 3) kernels whose answers to a constant 1 on 14 × 14 cells have their mean, under a softmax, at `places`.

    places: (K, 2) x and y in 0..1 of the crop. At a border the kernel misses what it would add from outside, so its
    answer tells the first and the last row, and the rows' softmax weights are 1 but for those.
    """
    kernels = torch.zeros(len(places), 3, 3)
    for kernel, (x, y) in zip(kernels, places * _CELLS, strict=True):
        # The published network counts x down its rows.
        for taps, mean in ((kernel[:, 1], x), (kernel[1], y)):
            last = _CELLS - 1
            rest = last * _CELLS / 2  # the sum of all row numbers
            if mean <= last / 2:
                taps[0] = -math.log(rest / mean - last)
            else:
                taps[2] = -math.log((last * mean - (rest - last)) / (last - mean))
    return kernels


def template_106() -> np.ndarray:
    """(106, 2) x and y in 0..1 of a crop: five features of a face, the others on spirals round its middle."""
    turn = np.arange(landmarks106.POINT_COUNT) * np.pi * (3 - np.sqrt(5))
    radius = np.sqrt(np.linspace(0.05, 1, landmarks106.POINT_COUNT))
    points = np.stack([0.8 * radius * np.cos(turn), radius * np.sin(turn)], 1)
    points[list(FIVE_OF_106)] = [(-0.38, -0.25), (0.38, -0.25), (0, 0.12), (-0.28, 0.5), (0.28, 0.5)]
    return 0.47 + points / np.abs(points[:, 1]).max() * _TEMPLATE_SHARE / 2 * 0.95


def retinaface_state(seed: int, width: int, channels: int) -> dict[str, Tensor]:
    """RetinaFace that finds one face in the middle of every picture."""
    weights = Weights(seed)
    _resnet50(weights, "body", width)
    for level in range(3):
        weights.conv(f"fpn.output{level + 1}.0", channels, (width << level + 1) * resnet.EXPANSION, 1, 1)
        weights.norm(f"fpn.output{level + 1}.1", channels)
        if level < 2:
            weights.conv(f"fpn.merge{level + 1}.0", channels, channels, 3, 3)
            weights.norm(f"fpn.merge{level + 1}.1", channels)
        _context(weights, f"ssh{level + 1}", channels)
        weights.head(f"ClassHead.{level}.conv1x1", 4, channels, 1, 1, bias=[_FAR_FROM_A_FACE, -_FAR_FROM_A_FACE] * 2)
        weights.head(f"BboxHead.{level}.conv1x1", 8, channels, 1, 1, bias=[0.0] * 8)
        weights.conv(f"LandmarkHead.{level}.conv1x1", 20, channels, 1, 1, bias=True)  # nobody reads these
    _answer_in_the_corner(weights)
    return weights.state


def _context(weights: Weights, name: str, channels: int) -> None:
    quarter = channels // 4
    shapes = {
        "conv3X3": (2 * quarter, channels),
        "conv5X5_1": (quarter, channels),
        "conv5X5_2": (quarter, quarter),
        "conv7X7_2": (quarter, quarter),
        "conv7x7_3": (quarter, quarter),
    }
    for part, shape in shapes.items():
        weights.conv(f"{name}.{part}.0", *shape, 3, 3)
        weights.norm(f"{name}.{part}.1", shape[0])


def _answer_in_the_corner(weights: Weights) -> None:
    """The larger anchor of the coarsest grid's first cell, and no other, is a face."""
    state = weights.state
    weights.constant_channel("fpn.output3.1")
    kernel = state["ssh3.conv3X3.0.weight"]
    kernel[0] = 0
    kernel[0, 0, 0, 1] = kernel[0, 0, 1, 0] = -1  # -2 inside, -1 at the upper or left border, 0 in the corner
    for part, value in (("weight", 1), ("bias", 1), ("running_mean", 0), ("running_var", 1)):
        state[f"ssh3.conv3X3.1.{part}"][0] = value  # plus 1, cut at 0: 1 in the corner, 0 elsewhere
    state["ClassHead.2.conv1x1.weight"][3, 0] = 4 * _FAR_FROM_A_FACE
    state["BboxHead.2.conv1x1.bias"][4:] = _offsets(_FACE_BOX_512, anchor_centre=16.0, anchor_side=512.0)


def _offsets(box: tuple[float, float, float, float], anchor_centre: float, anchor_side: float) -> Tensor:
    """(4,) what a detector must answer for a box (centre x and y, width, height) at an anchor on the diagonal."""
    centres = [(value - anchor_centre) / (_CENTRE_VARIANCE * anchor_side) for value in box[:2]]
    sizes = [math.log(value / anchor_side) / _SIZE_VARIANCE for value in box[2:]]
    return torch.tensor(centres + sizes)


def s3fd_state(seed: int, width: int) -> dict[str, Tensor]:
    """S3FD that finds one face in the middle of every 224 px crop."""
    weights = Weights(seed)
    channels = 3
    for stage, (factor, count) in enumerate(s3fd.STAGES, start=1):
        for index in range(1, count + 1):
            weights.conv(f"conv{stage}_{index}", factor * width, channels, 3, 3, bias=True)
            channels = factor * width
    tail = {"fc6": (16, 8, 3), "fc7": (16, 16, 1), "conv6_1": (4, 16, 1), "conv6_2": (8, 4, 3)}
    tail |= {"conv7_1": (2, 8, 1), "conv7_2": (4, 2, 3)}
    for name, (outputs, inputs, kernel) in tail.items():
        weights.conv(name, outputs * width, inputs * width, kernel, kernel, bias=True)
    for name, factor, length in (("conv3_3", 4, 10.0), ("conv4_3", 8, 8.0), ("conv5_3", 8, 5.0)):
        weights.state[f"{name}_norm.weight"] = torch.full((factor * width,), length)
    grids = {"conv3_3_norm": 4, "conv4_3_norm": 8, "conv5_3_norm": 8, "fc7": 16, "conv6_2": 8, "conv7_2": 4}
    for name, factor in grids.items():
        logits = [_FAR_FROM_A_FACE] * (3 if name == "conv3_3_norm" else 1) + [-_FAR_FROM_A_FACE]
        weights.head(f"{name}_mbox_conf", len(logits), factor * width, 3, 3, bias=logits)
        weights.head(f"{name}_mbox_loc", 4, factor * width, 3, 3, bias=[0.0] * 4)
    state = weights.state
    state["fc7.weight"][0], state["fc7.bias"][0] = 0, 1
    state["fc7_mbox_conf.weight"][1, 0, 0, 1] = state["fc7_mbox_conf.weight"][1, 0, 1, 0] = -4 * _FAR_FROM_A_FACE
    state["fc7_mbox_conf.bias"][1] = 3 * _FAR_FROM_A_FACE  # in the corner; far below "no face" at one border or inside
    stride = 32.0
    state["fc7_mbox_loc.bias"][:] = _offsets(_FACE_BOX_224, anchor_centre=stride / 2, anchor_side=S3FD_ANCHOR * stride)
    return state


@dataclass(frozen=True)
class FanSize:
    """channels and convolutions of the stand-in for 3D-FAN; 256 and 10 take as long as the published network."""

    channels: int
    convolutions: int


class TemplateFan(nn.Module):
    """Heatmaps (B, 68, 64, 64) of a picture (B, 3, 256, 256): peaks on a template, a little of the picture between."""

    def __init__(self, points: Tensor, size: FanSize):
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, size.channels, 7, stride=4, padding=3), nn.ReLU()]
        for _ in range(size.convolutions):
            layers += [nn.Conv2d(size.channels, size.channels, 3, padding=1), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(size.channels, POINT_COUNT, 1))
        along = torch.arange(HEATMAP_PX) + 0.5
        distance = (along.view(1, 1, -1) - points[:, :1, None]) ** 2 + (along.view(1, -1, 1) - points[:, 1:, None]) ** 2
        self.register_buffer("peaks", torch.exp(-distance / 2))  # (68, 64, 64)

    def forward(self, image: Tensor) -> Tensor:
        return self.peaks + 0.01 * torch.tanh(self.layers(image))


def fan_archive(seed: int, points: Tensor, size: FanSize) -> torch.jit.ScriptModule:
    """A TorchScript stand-in for 3D-FAN.

    points: (68, 2) float32 x and y in heatmap pixels.
    """
    network = TemplateFan(points, size).eval().requires_grad_(False)
    weights = Weights(seed)
    for parameter in network.parameters():
        bound = 1 / math.sqrt(max(parameter[0].numel(), 1))
        parameter.copy_(weights.uniform(-bound, bound, *parameter.shape))
    return torch.jit.script(network)
