"""The table of TensorFlow operations that this reader has, each as a torch function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hrn_opt.tfgraph import resize, shaping, spatial
from hrn_opt.tfgraph.graphdef import Attributes, real_number

Results = Tensor | tuple[Tensor, ...]


@dataclass(frozen=True)
class Rule:
    """How one TensorFlow operation runs.

    run: (attributes, *inputs) -> one tensor, or a tuple of them where the operation has several outputs; leaves its
    inputs as they are.
    static: inputs that must be known when the graph is read (sizes, axes, begins); `run` gets them on the CPU. Negative
    numbers count from the last input.
    layouts: inputs whose memory order `run` wants changed; for constants that happens once, when the graph is read.
    sketch: stands in for `run` where only shape and type of the results are asked for. Needed for the operations whose
    shape-only run in torch imports its compiler, which takes two seconds.
    """

    run: Callable[..., Results]
    static: tuple[int, ...] = ()
    layouts: Mapping[int, Callable[[Tensor], Tensor]] = field(default_factory=dict)
    sketch: Callable[..., Results] | None = None


def _plain(function: Callable[..., Tensor], *static: int) -> Rule:
    """An operation that has no attributes of interest."""
    return Rule(lambda attributes, *inputs: function(*inputs), static)


def _broadcast(attributes: Attributes, *xs: Tensor) -> Tensor:
    """Shape and type of an elementwise operation's result; torch's own rule would import sympy, one second."""
    return torch.empty(np.broadcast_shapes(*(tuple(x.shape) for x in xs)), dtype=xs[-1].dtype, device="meta")


def _broadcast_yes_no(attributes: Attributes, *xs: Tensor) -> Tensor:
    return _broadcast(attributes, *xs).to(torch.bool)


def _each(function: Callable[..., Tensor]) -> Rule:
    """An elementwise operation without attributes."""
    return Rule(lambda attributes, *inputs: function(*inputs), sketch=_broadcast)


def _yes_no(function: Callable[..., Tensor]) -> Rule:
    """An elementwise operation that answers with bools."""
    return Rule(lambda attributes, *inputs: function(*inputs), sketch=_broadcast_yes_no)


def _real_div(attributes: Attributes, x: Tensor, y: Tensor) -> Tensor:
    return x / y if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc")


def _floor_div(attributes: Attributes, x: Tensor, y: Tensor) -> Tensor:
    return torch.div(x, y, rounding_mode="floor")


def _leaky_relu(attributes: Attributes, x: Tensor) -> Tensor:
    return F.leaky_relu(x, real_number(attributes, "alpha", spatial.LEAKY_SLOPE))


def _select(attributes: Attributes, condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The old tf.where: a vector condition picks whole rows."""
    if condition.ndim == 1 and x.ndim > 1:
        condition = condition.reshape(-1, *[1] * (x.ndim - 1))
    return torch.where(condition, x, y)


def _mat_mul(attributes: Attributes, x: Tensor, y: Tensor) -> Tensor:
    return (x.T if attributes.get("transpose_a") else x) @ (y.T if attributes.get("transpose_b") else y)


def _mat_mul_sketch(attributes: Attributes, x: Tensor, y: Tensor) -> Tensor:
    rows, inner = reversed(x.shape) if attributes.get("transpose_a") else x.shape
    other, columns = reversed(y.shape) if attributes.get("transpose_b") else y.shape
    if inner != other:
        raise ValueError(f"a product of {tuple(x.shape)} and {tuple(y.shape)}")
    return torch.empty((rows, columns), dtype=x.dtype, device="meta")


def _reduction(function: shaping.Reduction) -> Rule:
    return Rule(shaping.reducer(function), (1,), sketch=shaping.reducer(shaping.reduction_sketch))


def _maximum_of_axes(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return x.amax(axes, keep)


def _all_of(attributes: Attributes, *xs: Tensor) -> tuple[Tensor, ...]:
    return xs


SOURCES = frozenset({"Const", "Placeholder", "PlaceholderWithDefault"})  # read by program.py itself
BRANCHES = frozenset({"Switch", "RefSwitch", "Merge", "RefMerge"})  # decided there, where their condition is constant

ELEMENTWISE = {
    "Add": _each(torch.add),
    "AddV2": _each(torch.add),
    "Sub": _each(torch.sub),
    "Mul": _each(torch.mul),
    "RealDiv": Rule(_real_div, sketch=_broadcast),
    "Div": Rule(_real_div, sketch=_broadcast),
    "FloorDiv": Rule(_floor_div, sketch=_broadcast),
    "FloorMod": _each(torch.remainder),
    "Maximum": _each(torch.maximum),
    "Minimum": _each(torch.minimum),
    "SquaredDifference": _each(lambda x, y: (x - y).square()),
    "Sqrt": _each(torch.sqrt),
    "Rsqrt": _each(torch.rsqrt),
    "Square": _each(torch.square),
    "Exp": _each(torch.exp),
    "Neg": _each(torch.neg),
    "Abs": _each(torch.abs),
    "Floor": _each(torch.floor),
    "Ceil": _each(torch.ceil),
    "Round": _each(torch.round),
    "Relu": _each(F.relu),
    "Relu6": _each(F.relu6),
    "LeakyRelu": Rule(_leaky_relu, sketch=_broadcast),
    "Elu": _each(F.elu),
    "Selu": _each(F.selu),
    "Sigmoid": _each(torch.sigmoid),
    "Tanh": _each(torch.tanh),
    "Softmax": _each(lambda x: F.softmax(x, -1)),
    "Greater": _yes_no(torch.gt),
    "GreaterEqual": _yes_no(torch.ge),
    "Less": _yes_no(torch.lt),
    "LessEqual": _yes_no(torch.le),
    "Equal": _yes_no(torch.eq),
    "NotEqual": _yes_no(torch.ne),
    "LogicalAnd": _yes_no(torch.logical_and),
    "LogicalOr": _yes_no(torch.logical_or),
    "LogicalNot": _yes_no(torch.logical_not),
    "Select": Rule(_select, sketch=lambda attributes, condition, x, y: x),
    "SelectV2": _each(torch.where),
    "MatMul": Rule(_mat_mul, sketch=_mat_mul_sketch),
}

UNCHANGED = {name: _plain(lambda x: x) for name in ("Identity", "StopGradient", "CheckNumerics")} | {
    "IdentityN": Rule(_all_of)
}

SHAPING = {
    "Cast": Rule(shaping.cast),
    "Shape": Rule(shaping.shape),
    "Reshape": Rule(shaping.reshape, (1,)),
    "Squeeze": Rule(shaping.squeeze),
    "ExpandDims": Rule(shaping.expand_dims, (1,)),
    "Transpose": Rule(shaping.transpose, (1,)),
    "Tile": Rule(shaping.tile, (1,), sketch=shaping.tile_sketch),
    "ReverseV2": Rule(shaping.reverse, (1,), sketch=lambda attributes, x, axes: x),
    "ConcatV2": Rule(shaping.concat, (-1,), sketch=shaping.concat_sketch),
    "Concat": Rule(shaping.concat_axis_first, (0,), sketch=shaping.concat_axis_first_sketch),
    "Pack": Rule(shaping.pack, sketch=shaping.pack_sketch),
    "Unpack": Rule(shaping.unpack),
    "Split": Rule(shaping.split, (0,)),
    "Slice": Rule(shaping.slice_, (1, 2)),
    "StridedSlice": Rule(shaping.strided_slice, (1, 2, 3)),
    "Gather": Rule(shaping.gather),
    "GatherV2": Rule(shaping.gather, (2,)),
    "Fill": Rule(shaping.fill, (0,), sketch=shaping.fill_sketch),
    "Range": Rule(shaping.range_, (0, 1, 2)),
    "ZerosLike": _each(torch.zeros_like),
    "OnesLike": _each(torch.ones_like),
    "ArgMax": Rule(shaping.arg_max, (1,), sketch=shaping.arg_sketch),
    "Mean": _reduction(shaping.mean),
    "Sum": _reduction(shaping.sum_),
    "Prod": _reduction(shaping.product),
    "Max": _reduction(_maximum_of_axes),
}

SPATIAL = {
    "Conv2D": Rule(spatial.conv2d, (), {1: spatial.ordinary_filter}, spatial.conv2d_sketch),
    "DepthwiseConv2dNative": Rule(
        spatial.depthwise_conv2d, (), {1: spatial.depthwise_filter}, spatial.depthwise_conv2d_sketch
    ),
    "Conv2DBackpropInput": Rule(
        spatial.conv2d_backprop_input, (0,), {1: spatial.ordinary_filter}, spatial.conv2d_backprop_input_sketch
    ),
    "FusedBatchNorm": Rule(spatial.fused_batch_norm, sketch=spatial.fused_batch_norm_sketch),
    "FusedBatchNormV2": Rule(spatial.fused_batch_norm, sketch=spatial.fused_batch_norm_sketch),
    "FusedBatchNormV3": Rule(spatial.fused_batch_norm, sketch=spatial.fused_batch_norm_sketch),
    "BiasAdd": Rule(spatial.bias_add, sketch=spatial.bias_add_sketch),
    "MaxPool": Rule(spatial.max_pool, sketch=spatial.pool_sketch),
    "AvgPool": Rule(spatial.avg_pool, sketch=spatial.pool_sketch),
    "ResizeBilinear": Rule(resize.bilinear, (1,), sketch=resize.bilinear_sketch),
    "ResizeNearestNeighbor": Rule(resize.nearest, (1,)),
    "Pad": Rule(spatial.pad, (1,)),
    "PadV2": Rule(spatial.pad, (1, 2)),
    "MirrorPad": Rule(spatial.mirror_pad, (1,)),
    "SpaceToBatchND": Rule(spatial.space_to_batch, (1, 2)),
    "BatchToSpaceND": Rule(spatial.batch_to_space, (1, 2)),
    "DepthToSpace": Rule(spatial.depth_to_space),
}

OPS: dict[str, Rule] = {**ELEMENTWISE, **UNCHANGED, **SHAPING, **SPATIAL}
