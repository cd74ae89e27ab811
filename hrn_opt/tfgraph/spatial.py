"""TensorFlow's operations on pictures, in torch: convolutions, pools, normalisation, padding, re-tiling.

Tensors keep TensorFlow's axes (batch, height, width, channels); torch's order is a view of the same memory, which
torch calls channels_last, so changing between the two copies nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hrn_opt.tfgraph.errors import NotBuiltIn
from hrn_opt.tfgraph.graphdef import Attributes, listed, real_number, whole_number

BATCH_NORM_EPSILON = 1e-4  # TensorFlow's default for FusedBatchNorm
LEAKY_SLOPE = 0.2  # TensorFlow's default for LeakyRelu


def _channels_first(attributes: Attributes) -> bool:
    layout = attributes.get("data_format") or "NHWC"
    if layout not in ("NHWC", "NCHW"):
        raise NotBuiltIn(f"data_format {layout!r}")
    return layout == "NCHW"


def _planes(attributes: Attributes, x: Tensor) -> Tensor:
    """(B, C, H, W) view of a picture in the operation's own layout."""
    if x.ndim != 4:
        raise ValueError(f"a picture has 4 axes, this has {x.ndim}")
    return x if _channels_first(attributes) else x.permute(0, 3, 1, 2)


def _like(attributes: Attributes, planes: Tensor) -> Tensor:
    """(B, C, H, W) back in the operation's own layout."""
    return planes if _channels_first(attributes) else planes.permute(0, 2, 3, 1)


def _spatial(attributes: Attributes, key: str) -> tuple[int, int]:
    """The (height, width) entries of a four-number attribute such as strides."""
    numbers = listed(attributes, key) or (1, 1, 1, 1)
    pair, rest = (numbers[2:], numbers[:2]) if _channels_first(attributes) else (numbers[1:3], numbers[::3])
    if len(numbers) != 4 or tuple(rest) != (1, 1) or min(pair) < 1:
        raise NotBuiltIn(f"{key} {tuple(numbers)}")
    height, width = pair
    return height, width


@dataclass(frozen=True)
class Margins:
    """Rows and columns of padding round a picture."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def even(self) -> bool:
        return self.top == self.bottom and self.left == self.right

    @property
    def any(self) -> bool:
        return max(self.top, self.bottom, self.left, self.right) > 0

    def pad(self, planes: Tensor, value: float = 0.0) -> Tensor:
        return F.pad(planes, (self.left, self.right, self.top, self.bottom), value=value) if self.any else planes


def _margins(
    attributes: Attributes,
    size_hw: Sequence[int],
    window_hw: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int] = (1, 1),
) -> Margins:
    """What SAME, VALID or EXPLICIT means for a picture of `size_hw`; SAME puts the odd row last."""
    padding = attributes.get("padding")
    if padding == "VALID":
        return Margins(0, 0, 0, 0)
    if padding == "EXPLICIT":
        numbers = listed(attributes, "explicit_paddings")
        if len(numbers) != 8:
            raise ValueError(f"explicit_paddings needs 8 numbers, has {len(numbers)}")
        return Margins(*(numbers[4:] if _channels_first(attributes) else numbers[2:6]))
    if padding != "SAME":
        raise NotBuiltIn(f"padding {padding!r}")
    sides = []
    for size, window, stride, dilation in zip(size_hw, window_hw, strides, dilations, strict=True):
        total = max((math.ceil(size / stride) - 1) * stride + (window - 1) * dilation + 1 - size, 0)
        sides += [total // 2, total - total // 2]
    return Margins(*sides)


def ordinary_filter(weight: Tensor) -> Tensor:
    """TensorFlow's (height, width, in, out) as torch's (out, in, height, width)."""
    return weight.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)


def depthwise_filter(weight: Tensor) -> Tensor:
    """TensorFlow's (height, width, in, multiplier) as torch's (in * multiplier, 1, height, width)."""
    planes = weight.permute(2, 3, 0, 1).flatten(0, 1)  # (in * multiplier, H, W)
    return planes.unsqueeze(1).contiguous(memory_format=torch.channels_last)


def _convolve(attributes: Attributes, planes: Tensor, weight: Tensor, groups: int) -> Tensor:
    strides, dilations = _spatial(attributes, "strides"), _spatial(attributes, "dilations")
    margins = _margins(attributes, planes.shape[2:], weight.shape[2:], strides, dilations)
    if not margins.even:
        return F.conv2d(margins.pad(planes), weight, None, strides, 0, dilations, groups)
    return F.conv2d(planes, weight, None, strides, (margins.top, margins.left), dilations, groups)


def conv2d(attributes: Attributes, x: Tensor, weight: Tensor) -> Tensor:
    planes = _planes(attributes, x)
    return _like(attributes, _convolve(attributes, planes, weight, planes.shape[1] // max(weight.shape[1], 1)))


def depthwise_conv2d(attributes: Attributes, x: Tensor, weight: Tensor) -> Tensor:
    planes = _planes(attributes, x)
    return _like(attributes, _convolve(attributes, planes, weight, planes.shape[1]))


def _slid(
    attributes: Attributes, planes: Tensor, window_hw: Sequence[int], dilations: Sequence[int], channels: int
) -> Tensor:
    """Shape of what comes out when a window slides over a picture, in the operation's own layout."""
    strides, size_hw = _spatial(attributes, "strides"), tuple(planes.shape[2:])
    margins = _margins(attributes, size_hw, window_hw, strides, dilations)
    padded_hw = (size_hw[0] + margins.top + margins.bottom, size_hw[1] + margins.left + margins.right)
    out = []
    for axis in range(2):
        reach = (window_hw[axis] - 1) * dilations[axis] + 1
        if padded_hw[axis] < reach or window_hw[axis] < 1:
            raise ValueError(f"a window of {reach} on a picture of {padded_hw[axis]}")
        out.append((padded_hw[axis] - reach) // strides[axis] + 1)
    return _like(attributes, torch.empty((planes.shape[0], channels, *out), dtype=planes.dtype, device="meta"))


def conv2d_sketch(attributes: Attributes, x: Tensor, weight: Tensor) -> Tensor:
    planes, (out_channels, in_channels) = _planes(attributes, x), weight.shape[:2]
    groups = planes.shape[1] // max(in_channels, 1)
    if groups < 1 or groups * in_channels != planes.shape[1] or out_channels % groups:
        raise ValueError(f"{planes.shape[1]} channels, filtered by ({out_channels}, {in_channels})")
    return _slid(attributes, planes, weight.shape[2:], _spatial(attributes, "dilations"), out_channels)


def depthwise_conv2d_sketch(attributes: Attributes, x: Tensor, weight: Tensor) -> Tensor:
    planes = _planes(attributes, x)
    if planes.shape[1] < 1 or weight.shape[0] % planes.shape[1]:
        raise ValueError(f"{planes.shape[1]} channels, filtered by {weight.shape[0]}")
    return _slid(attributes, planes, weight.shape[2:], _spatial(attributes, "dilations"), weight.shape[0])


def pool_sketch(attributes: Attributes, x: Tensor) -> Tensor:
    planes = _planes(attributes, x)
    return _slid(attributes, planes, _spatial(attributes, "ksize"), (1, 1), planes.shape[1])


def conv2d_backprop_input_sketch(attributes: Attributes, sizes: Tensor, weight: Tensor, x: Tensor) -> Tensor:
    planes, (in_channels, out_channels) = _planes(attributes, x), weight.shape[:2]
    batch_hw = (planes.shape[0], *_output_hw(attributes, sizes))
    whole = torch.empty((batch_hw[0], out_channels, *batch_hw[1:]), dtype=x.dtype, device="meta")
    forward = _slid(attributes, whole, weight.shape[2:], _spatial(attributes, "dilations"), in_channels)
    if forward.shape != x.shape:
        raise ValueError(f"a picture of {tuple(x.shape)} where {tuple(forward.shape)} is wanted")
    return _like(attributes, whole)


def _output_hw(attributes: Attributes, sizes: Tensor) -> list[int]:
    """(height, width) from what a transposed convolution is asked for: all four sizes, or these two."""
    numbers = sizes.tolist()
    return numbers[-2:] if len(numbers) == 2 or _channels_first(attributes) else numbers[1:3]


def conv2d_backprop_input(attributes: Attributes, sizes: Tensor, weight: Tensor, x: Tensor) -> Tensor:
    """The transposed convolution: `sizes` is the shape of what comes out."""
    planes = _planes(attributes, x)
    out_hw = _output_hw(attributes, sizes)
    strides, dilations = _spatial(attributes, "strides"), _spatial(attributes, "dilations")
    margins = _margins(attributes, out_hw, weight.shape[2:], strides, dilations)
    before = (margins.top, margins.left)
    missing = []  # rows that no window reached in the forward direction
    for axis in range(2):
        reach = (planes.shape[2 + axis] - 1) * strides[axis] + (weight.shape[2 + axis] - 1) * dilations[axis] + 1
        missing.append(max(out_hw[axis] - (reach - 2 * before[axis]), 0))
    full = F.conv_transpose2d(planes, weight, None, strides, before, tuple(missing), 1, dilations)
    return _like(attributes, full[:, :, : out_hw[0], : out_hw[1]])


def fused_batch_norm(attributes: Attributes, x: Tensor, scale: Tensor, offset: Tensor, *moments: Tensor) -> Tensor:
    """Normalisation with the stored moments, or with the picture's own where the graph was frozen in training mode."""
    epsilon = real_number(attributes, "epsilon", BATCH_NORM_EPSILON)
    training = bool(attributes.get("is_training", True))
    planes = _planes(attributes, x)
    mean, variance = (None, None) if training else moments[:2]
    return _like(attributes, F.batch_norm(planes, mean, variance, scale, offset, training, 0.0, epsilon))


def fused_batch_norm_sketch(attributes: Attributes, x: Tensor, *numbers: Tensor) -> Tensor:
    channels = _planes(attributes, x).shape[1]
    if any(tuple(each.shape) not in ((channels,), (0,)) for each in numbers):
        raise ValueError(f"{channels} channels, normalised by {[tuple(each.shape) for each in numbers]} numbers")
    return x


def bias_add_sketch(attributes: Attributes, x: Tensor, bias: Tensor) -> Tensor:
    channels = x.shape[1] if _channels_first(attributes) else x.shape[-1]
    if tuple(bias.shape) != (channels,):
        raise ValueError(f"{channels} channels and a bias of {tuple(bias.shape)}")
    return x


def bias_add(attributes: Attributes, x: Tensor, bias: Tensor) -> Tensor:
    if _channels_first(attributes):
        return x + bias.reshape(-1, *[1] * (x.ndim - 2))
    return x + bias


def max_pool(attributes: Attributes, x: Tensor) -> Tensor:
    planes = _planes(attributes, x)
    window, strides = _spatial(attributes, "ksize"), _spatial(attributes, "strides")
    margins = _margins(attributes, planes.shape[2:], window, strides)
    return _like(attributes, F.max_pool2d(margins.pad(planes, -math.inf), window, strides))


def avg_pool(attributes: Attributes, x: Tensor) -> Tensor:
    """Means over the window's part inside the picture."""
    planes = _planes(attributes, x)
    window, strides = _spatial(attributes, "ksize"), _spatial(attributes, "strides")
    margins = _margins(attributes, planes.shape[2:], window, strides)
    means = F.avg_pool2d(margins.pad(planes), window, strides)
    if margins.any:
        inside = F.avg_pool2d(margins.pad(torch.ones_like(planes[:1, :1])), window, strides)
        means = means / inside
    return _like(attributes, means)


def _pairs(numbers: Tensor, axes: int) -> list[list[int]]:
    """(axes, 2) amounts before and after, checked."""
    if tuple(numbers.shape) != (axes, 2) or (numbers < 0).any():
        raise ValueError(f"amounts before and after must be ({axes}, 2) and not negative, got {numbers.tolist()}")
    return numbers.tolist()


def pad(attributes: Attributes, x: Tensor, amounts: Tensor, value: Tensor | None = None) -> Tensor:
    flat = [number for pair in reversed(_pairs(amounts, x.ndim)) for number in pair]
    return F.pad(x, flat, value=0 if value is None else value.item())


def mirror_pad(attributes: Attributes, x: Tensor, amounts: Tensor) -> Tensor:
    """REFLECT leaves the border out of the mirrored part, SYMMETRIC repeats it."""
    mode = attributes.get("mode")
    if mode not in ("REFLECT", "SYMMETRIC"):
        raise NotBuiltIn(f"mirror padding {mode!r}")
    skipped = 1 if mode == "REFLECT" else 0
    for axis, (before, after) in enumerate(_pairs(amounts, x.ndim)):
        size = x.shape[axis]
        if max(before, after) > size - skipped:
            raise ValueError(f"mirror padding {before}, {after} of an axis of {size}")
        if before or after:
            last = size - 1 - skipped
            rows = [*range(before - 1 + skipped, skipped - 1, -1), *range(size), *range(last, last - after, -1)]
            x = x.index_select(axis, torch.tensor(rows, device=x.device))
    return x


def space_to_batch(attributes: Attributes, x: Tensor, block: Tensor, amounts: Tensor) -> Tensor:
    """Every block-th row and column as a picture of its own; how TensorFlow 1 writes a dilated convolution."""
    blocks, tail = block.tolist(), list(x.shape[1 + len(block) :])
    pairs = _pairs(amounts, len(blocks))
    padded = F.pad(x, [number for pair in reversed([[0, 0], *pairs, *[[0, 0]] * len(tail)]) for number in pair])
    split = [padded.shape[0]]
    for axis, factor in enumerate(blocks):
        if factor < 1 or padded.shape[1 + axis] % factor:
            raise ValueError(f"{padded.shape[1 + axis]} rows do not divide by {factor}")
        split += [padded.shape[1 + axis] // factor, factor]
    cells = padded.reshape(*split, *tail)  # (B, H/b, b, W/b, b, C)
    count = len(blocks)
    order = [*range(2, 2 * count + 1, 2), 0, *range(1, 2 * count, 2), *range(2 * count + 1, cells.ndim)]
    moved = cells.permute(order)  # (b, b, B, H/b, W/b, C)
    return moved.reshape(-1, *moved.shape[count + 1 :])


def batch_to_space(attributes: Attributes, x: Tensor, block: Tensor, crops: Tensor) -> Tensor:
    """The way back from `space_to_batch`."""
    blocks, count = block.tolist(), len(block)
    pairs = _pairs(crops, count)
    if x.shape[0] % max(math.prod(blocks), 1):
        raise ValueError(f"{x.shape[0]} pictures do not divide by blocks of {blocks}")
    cells = x.reshape(*blocks, x.shape[0] // math.prod(blocks), *x.shape[1:])  # (b, b, B, H, W, C)
    order = [count]
    for axis in range(count):
        order += [count + 1 + axis, axis]
    moved = cells.permute(*order, *range(2 * count + 1, cells.ndim))  # (B, H, b, W, b, C)
    sizes = [x.shape[1 + axis] * blocks[axis] for axis in range(count)]
    whole = moved.reshape(moved.shape[0], *sizes, *x.shape[1 + count :])
    for axis, (before, after) in enumerate(pairs):
        whole = whole.narrow(1 + axis, before, sizes[axis] - before - after)
    return whole


def depth_to_space(attributes: Attributes, x: Tensor) -> Tensor:
    block = whole_number(attributes, "block_size")
    b, c, h, w = (planes := _planes(attributes, x)).shape
    cells = planes.reshape(b, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)  # (B, C', H, b, W, b)
    return _like(attributes, cells.reshape(b, c // block**2, h * block, w * block))
