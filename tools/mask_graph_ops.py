"""One tiny TensorFlow graph for each operation and setting that is easy to get wrong.

Each case is a function from a float32 input to an output; the raw operations are named where the friendly function
would choose another one. mask_graph_reference.py runs them; needs TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

raw = tf.raw_ops
PICTURE = (2, 9, 7, 4)  # batch, height, width, channels: all different, so that a swapped axis shows


@dataclass(frozen=True)
class Case:
    """What to run, and the shape of its input; numbers come from the case's name."""

    build: Callable[[tf.Tensor], tf.Tensor]
    shape: tuple[int, ...] = PICTURE


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def ints(*numbers) -> np.ndarray:
    return np.array(numbers, np.int32)


def conv(kernel, stride, padding, dilation=1, explicit=(), shape=PICTURE, groups=1) -> Case:
    options = {"strides": [1, *stride, 1], "padding": padding, "dilations": [1, dilation, dilation, 1]}
    weight = weights(*kernel, 4 // groups, 6)
    return Case(lambda x: raw.Conv2D(input=x, filter=weight, explicit_paddings=list(explicit), **options), shape)


def depthwise(kernel, stride, padding, dilation=1, multiplier=2) -> Case:
    options = {"strides": [1, stride, stride, 1], "padding": padding, "dilations": [1, dilation, dilation, 1]}
    weight = weights(*kernel, 4, multiplier)
    return Case(lambda x: raw.DepthwiseConv2dNative(input=x, filter=weight, **options))


def transposed(kernel, stride, padding, out_hw, explicit=()) -> Case:
    weight = weights(*kernel, 5, 4)
    options = {"strides": [1, stride, stride, 1], "padding": padding, "explicit_paddings": list(explicit)}
    return Case(
        lambda x: raw.Conv2DBackpropInput(input_sizes=ints(2, *out_hw, 5), filter=weight, out_backprop=x, **options)
    )


def pool(function, window, stride, padding) -> Case:
    return Case(lambda x: function(x, window, stride, padding))


def max_pool(x, window, stride, padding):
    return raw.MaxPool(input=x, ksize=[1, *window, 1], strides=[1, stride, stride, 1], padding=padding)


def avg_pool(x, window, stride, padding):
    return raw.AvgPool(value=x, ksize=[1, *window, 1], strides=[1, stride, stride, 1], padding=padding)


def bilinear(height, width, corners=False, centres=False) -> Case:
    options = {"align_corners": corners, "half_pixel_centers": centres}
    return Case(lambda x: raw.ResizeBilinear(images=x, size=ints(height, width), **options))


def nearest(height, width, corners=False, centres=False) -> Case:
    options = {"align_corners": corners, "half_pixel_centers": centres}
    return Case(lambda x: raw.ResizeNearestNeighbor(images=x, size=ints(height, width), **options))


def strided(begin, end, strides, /, **masks) -> Case:
    masks = {f"{key}_mask": value for key, value in masks.items()}
    return Case(
        lambda x: raw.StridedSlice(input=x, begin=ints(*begin), end=ints(*end), strides=ints(*strides), **masks)
    )


def norm(op, **options) -> Case:
    def build(x):
        four = [weights(4, seed=seed) for seed in range(3)]
        return op(
            x=x, scale=four[0], offset=four[1], mean=four[2], variance=tf.abs(weights(4, seed=3)) + 0.3, **options
        )[0]

    return Case(build)


def training_norm(x):
    empty = tf.zeros([0])
    scale, offset = weights(4), weights(4, seed=1)
    return raw.FusedBatchNormV3(x=x, scale=scale, offset=offset, mean=empty, variance=empty, is_training=True)[0]


def blocks(x):
    small = raw.SpaceToBatchND(input=x, block_shape=ints(2, 3), paddings=ints([1, 2], [0, 2]))
    mixed = raw.Conv2D(input=small, filter=weights(3, 2, 4, 4), strides=[1, 1, 1, 1], padding="SAME")
    return raw.BatchToSpaceND(input=mixed, block_shape=ints(2, 3), crops=ints([1, 1], [0, 1]))


def shape_arithmetic(x):
    """Sizes computed in the graph, the way tf.layers writes them."""
    size = tf.shape(x)
    height, width = size[1] * 2, tf.cast(tf.floor(tf.cast(size[2], tf.float32) * 1.5), tf.int32)
    return tf.reshape(tf.compat.v1.image.resize_bilinear(x, tf.stack([height, width])), [-1, height * width, 4])


def selected(x):
    rows = tf.constant([True, False])
    return raw.Select(condition=rows, x=x, y=-x) + tf.where(x > 0.2, x, tf.zeros([]))


def logic(x):
    chosen = tf.logical_or(tf.logical_and(x > -0.5, tf.logical_not(x >= 0.5)), tf.equal(x, x[:1]))
    return tf.cast(chosen, tf.float32) + tf.cast(tf.not_equal(x < 0, x <= -0.1), tf.float32) * 2


def casts(x):
    """Float to whole numbers cuts towards zero; uint8 wraps when it is added to."""
    grey = tf.cast(tf.minimum(tf.abs(x) * 100, 250.0), tf.uint8)
    return tf.cast(grey + grey, tf.float32) + tf.cast(tf.cast(x * 3, tf.int32) // 2, tf.float32)


def made(x):
    steps = tf.cast(raw.Range(start=tf.constant(2), limit=tf.constant(11), delta=tf.constant(3)), tf.float32)
    return x[:, :3] * steps[None, :, None, None] + raw.Fill(dims=tf.shape(x)[1:2] // 3, value=tf.constant(2.5))[0]


def reduction(op, axes, keep) -> Case:
    return Case(lambda x: op(input=x, axis=tf.constant(axes, tf.int32), keep_dims=keep))


def of(function) -> Case:
    return Case(function)


POSITIVE = ["Sqrt", "Rsqrt"]
UNARY = ["Exp", "Neg", "Abs", "Floor", "Ceil", "Round", "Square", "Sigmoid", "Tanh"]
ACTIVATIONS = ["Relu", "Relu6", "LeakyRelu", "Elu", "Selu"]
BINARY = [
    *("Add", "AddV2", "Sub", "Mul", "RealDiv", "Div", "FloorDiv", "FloorMod"),
    *("Maximum", "Minimum", "SquaredDifference"),
]


def positive(name: str) -> Case:
    return Case(lambda x: getattr(raw, name)(x=tf.abs(x) + 0.1))


def unary(name: str) -> Case:
    return Case(lambda x: getattr(raw, name)(x=x * 2))


def activation(name: str) -> Case:
    return Case(lambda x: getattr(raw, name)(features=x * 3))


def binary(name: str) -> Case:
    return Case(lambda x: getattr(raw, name)(x=x, y=weights(7, 1)))


CASES: dict[str, Case] = {
    "conv_same": conv((3, 3), (1, 1), "SAME"),
    "conv_same_even_kernel": conv((4, 2), (1, 1), "SAME"),
    "conv_same_stride2": conv((3, 3), (2, 2), "SAME"),
    "conv_same_stride2_even_size": conv((3, 3), (2, 2), "SAME", shape=(2, 8, 6, 4)),
    "conv_same_stride3_kernel1": conv((1, 1), (3, 2), "SAME"),
    "conv_same_dilated": conv((3, 2), (1, 1), "SAME", 2),
    "conv_valid": conv((3, 2), (2, 1), "VALID"),
    "conv_valid_dilated": conv((3, 3), (1, 1), "VALID", 3),
    "conv_explicit": conv((3, 3), (2, 2), "EXPLICIT", explicit=(0, 0, 0, 2, 1, 0, 0, 0)),
    "conv_groups": conv((3, 3), (1, 1), "SAME", groups=2),
    "depthwise_same": depthwise((3, 3), 1, "SAME"),
    "depthwise_stride2": depthwise((3, 3), 2, "SAME", multiplier=1),
    "depthwise_valid": depthwise((2, 3), 2, "VALID"),
    "depthwise_dilated": depthwise((3, 3), 1, "SAME", 2),
    "transposed_same_stride2": transposed((3, 3), 2, "SAME", (18, 14)),
    "transposed_same_stride2_odd": transposed((3, 3), 2, "SAME", (17, 13)),
    "transposed_same_kernel4": transposed((4, 4), 2, "SAME", (18, 14)),
    "transposed_same_kernel2_stride3": transposed((2, 2), 3, "SAME", (27, 20)),
    "transposed_valid": transposed((3, 2), 2, "VALID", (19, 14)),
    "transposed_valid_slack": transposed((3, 2), 2, "VALID", (20, 15)),
    "transposed_explicit": transposed((3, 3), 2, "EXPLICIT", (18, 14), explicit=(0, 0, 1, 0, 0, 1, 0, 0)),
    "max_pool_same": pool(max_pool, (3, 3), 2, "SAME"),
    "max_pool_even": pool(max_pool, (2, 2), 2, "SAME"),
    "max_pool_valid": pool(max_pool, (3, 2), 1, "VALID"),
    "avg_pool_same": pool(avg_pool, (3, 3), 2, "SAME"),
    "avg_pool_even": pool(avg_pool, (4, 2), 1, "SAME"),
    "avg_pool_valid": pool(avg_pool, (2, 3), 2, "VALID"),
    "norm_v1": norm(raw.FusedBatchNorm, is_training=False, epsilon=0.01),
    "norm_v2": norm(raw.FusedBatchNormV2, is_training=False),
    "norm_v3": norm(raw.FusedBatchNormV3, is_training=False, epsilon=0.05),
    "norm_training": of(training_norm),
    "bias": of(lambda x: raw.BiasAdd(value=x, bias=weights(4))),
    "bilinear_legacy_up": bilinear(20, 13),
    "bilinear_legacy_down": bilinear(4, 5),
    "bilinear_corners_up": bilinear(20, 13, corners=True),
    "bilinear_corners_down": bilinear(4, 5, corners=True),
    "bilinear_corners_one": bilinear(1, 5, corners=True),
    "bilinear_centres_up": bilinear(20, 13, centres=True),
    "bilinear_centres_down": bilinear(4, 5, centres=True),
    "nearest_legacy_up": nearest(20, 13),
    "nearest_legacy_down": nearest(4, 5),
    "nearest_corners_up": nearest(21, 13, corners=True),
    "nearest_corners_down": nearest(5, 4, corners=True),
    "nearest_corners_one": nearest(1, 4, corners=True),
    "nearest_centres_up": nearest(21, 13, centres=True),
    "nearest_centres_down": nearest(4, 5, centres=True),
    "pad": of(lambda x: raw.Pad(input=x, paddings=ints([0, 1], [2, 0], [1, 3], [0, 2]))),
    "pad_v2": of(lambda x: raw.PadV2(input=x, paddings=ints([0, 0], [2, 0], [1, 3], [0, 0]), constant_values=-2.5)),
    "mirror_reflect": of(
        lambda x: raw.MirrorPad(input=x, paddings=ints([0, 0], [2, 3], [6, 1], [0, 1]), mode="REFLECT")
    ),
    "mirror_symmetric": of(
        lambda x: raw.MirrorPad(input=x, paddings=ints([0, 1], [2, 3], [7, 1], [0, 0]), mode="SYMMETRIC")
    ),
    "space_to_batch": Case(blocks, (2, 9, 7, 4)),
    "depth_to_space": of(lambda x: raw.DepthToSpace(input=tf.concat([x, x * 2, x + 1], 3), block_size=2)),
    "slice_plain": strided((0, 1, 2), (2, 8, 7), (1, 2, 3)),
    "slice_negative_step": strided((0, 7, -1), (2, 1, -20), (1, -2, -1), begin=1),
    "slice_reversed_all": strided((0, 0, 0, 0), (0, 0, 0, 0), (1, 1, 1, -1), begin=15, end=15),
    "slice_shrink": strided((-1, 1, 3), (0, 8, 4), (1, 1, 1), shrink_axis=5),
    "slice_ellipsis": strided((0, 1), (0, 3), (1, 1), ellipsis=1),
    "slice_ellipsis_middle": strided((1, 0, 0, 2), (2, 0, 0, 3), (1, 1, 1, 1), ellipsis=2, new_axis=4, shrink_axis=8),
    "slice_new_axis": strided((0, 0, 2), (0, 2, 5), (1, 1, 1), new_axis=1, begin=2),
    "slice_past_the_end": strided((0, -30, 4), (9, 40, 99), (1, 1, 2)),
    "slice_sizes": of(lambda x: raw.Slice(input=x, begin=ints(0, 2, 1, 0), size=ints(2, -1, 3, -1))),
    "unpack_pack": of(lambda x: raw.Pack(values=raw.Unpack(value=x, num=7, axis=2)[::-2], axis=1)),
    "concat_v1": of(lambda x: raw.Concat(concat_dim=tf.constant(2), values=[x, x * 2])),
    "tile": of(lambda x: raw.Tile(input=x, multiples=ints(1, 2, 1, 3))),
    "gather": of(lambda x: raw.GatherV2(params=x, indices=ints([3, 0], [1, 1]), axis=tf.constant(-1))),
    "gather_v1": of(lambda x: raw.Gather(params=x, indices=ints(1, 0, 1))),
    "transpose": of(lambda x: raw.Transpose(x=x, perm=ints(2, 0, 3, 1))),
    "reverse": of(lambda x: raw.ReverseV2(tensor=x, axis=ints(1, -1))),
    "expand_squeeze": of(lambda x: tf.squeeze(raw.ExpandDims(input=x[:1, :, :, :1], axis=tf.constant(-2)), [0, 3])),
    "squeeze_all": of(lambda x: raw.Squeeze(input=x[:1, :, :, :1])),
    "mean_keep": reduction(raw.Mean, [1, 2], True),
    "mean_negative_axis": reduction(raw.Mean, -1, False),
    "sum": reduction(raw.Sum, [0, -2], False),
    "max": reduction(raw.Max, [3, 1], True),
    "prod": reduction(raw.Prod, [1], False),
    "argmax": of(lambda x: tf.cast(raw.ArgMax(input=x, dimension=3), tf.float32)),
    "argmax_ties": of(lambda x: tf.cast(raw.ArgMax(input=tf.round(x), dimension=1, output_type=tf.int32), tf.float32)),
    "softmax": of(lambda x: raw.Softmax(logits=x)),
    "leaky": of(lambda x: raw.LeakyRelu(features=x, alpha=0.05)),
    "select": of(selected),
    "logic": of(logic),
    "casts": of(casts),
    "made": of(made),
    "shape_arithmetic": of(shape_arithmetic),
    "mat_mul": of(lambda x: raw.MatMul(a=tf.reshape(x, [18, 28]), b=weights(5, 28), transpose_b=True)),
    "like": of(lambda x: raw.OnesLike(x=x) * x - raw.ZerosLike(x=x)),
    "double": of(lambda x: tf.cast(tf.cast(x, tf.float64) * tf.constant(1.5, tf.float64), tf.float32)),
    "half": of(lambda x: tf.cast(tf.constant([1.5, 2.5, 3.0, -0.25], tf.float16), tf.float32) * x),
    "bfloat16": of(lambda x: tf.cast(tf.constant([1.5, 2.5, 3.0, -0.25], tf.bfloat16), tf.float32) * x),
    "splat": of(
        lambda x: x * tf.constant(0.5, shape=[9, 7, 4]) + tf.cast(tf.constant(-3, tf.int64, [7, 4]), tf.float32)
    ),
    "identities": of(lambda x: tf.stop_gradient(tf.debugging.check_numerics(raw.IdentityN(input=[x, x * 2])[1], "x"))),
    **{name: positive(name) for name in POSITIVE},
    **{name: unary(name) for name in UNARY},
    **{name: activation(name) for name in ACTIVATIONS},
    **{name: binary(name) for name in BINARY},
}
