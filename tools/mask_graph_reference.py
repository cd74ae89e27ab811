r"""Frozen TensorFlow graphs with the interface of HRN's skin mask, and TensorFlow's answers, for the tests.

    python -m venv tf && tf/bin/pip install tensorflow-cpu==2.21.0 tf2onnx==1.17.0 onnxruntime
    tf/bin/python tools/mask_graph_reference.py tests/data/mask            # writes every file there
    tf/bin/python tools/mask_graph_reference.py tests/data/mask --big DIR  # one of 36 MB with its answer, for timing

Run it in an environment of its own, from the repository's root, after writing written.pb in hrn_opt's environment:

    .venv/bin/python -c "import sys; from testing.synthetic_pack.mask_graph import skin_graph; \
        sys.stdout.buffer.write(skin_graph(seed=3, width=8))" > tests/data/mask/written.pb

What it writes:

    NAME.pb         a graph from `input_image:0` to `output_alpha:0`; `foreign.pb` has other names, `loop.pb` and
                    `decides.pb` have control flow that depends on the picture
    written.pb      read, not written: the made-up packs' writer makes it; TensorFlow's answer shows its format right
    masks.npz       `images` (2, 224, 224, 3) uint8, and for each graph NAME TensorFlow's masks, (2, 76, 76) float32:
                    every third row and column, and the last ones
    operations.npz  for each case of mask_graph_ops.py: NAME/graph, NAME/input, NAME/output
    unet.onnx, loop.onnx   the two graphs through tools/convert_mask.py, for the second route

Weights and images are seeded; the answers are of TensorFlow 2.21.0 on a CPU.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from mask_graph_ops import CASES

v1 = tf.compat.v1
SIZE_PX = 224
KEPT = np.unique([*range(0, SIZE_PX, 3), SIZE_PX - 1])  # rows and columns whose values are stored
INPUT, OUTPUT = "input_image", "output_alpha"


class Layers:
    """Seeded weights as constants behind an Identity each, as freezing leaves them."""

    def __init__(self, seed: int):
        self._random = np.random.default_rng(seed)
        self._count = 0

    def weight(self, *shape: int, low: float | None = None, high: float = 1.0) -> tf.Tensor:
        """Uniform numbers in low..high, or normal ones scaled for a filter where there is no low."""
        self._count += 1
        if low is None:
            numbers = self._random.standard_normal(shape) * (2 / max(np.prod(shape[:-1]), 1)) ** 0.5
        else:
            numbers = self._random.uniform(low, high, shape)
        constant = tf.constant(numbers.astype(np.float32), name=f"variable_{self._count}")
        return tf.identity(constant, name=f"variable_{self._count}/read")

    def conv(self, x, channels: int, kernel: int = 3, stride: int = 1, **options):
        weight = self.weight(kernel, kernel, x.shape[3], channels)
        return tf.nn.bias_add(
            tf.nn.conv2d(x, weight, stride, "SAME", **options), self.weight(channels, low=-0.1, high=0.1)
        )

    def depthwise(self, x, stride: int = 1):
        return tf.nn.depthwise_conv2d(x, self.weight(3, 3, x.shape[3], 1) * 2.0, [1, stride, stride, 1], "SAME")

    def norm(self, x, op=tf.raw_ops.FusedBatchNormV3):
        four = [
            self.weight(x.shape[3], low=low, high=high)
            for low, high in ((0.7, 1.3), (-0.2, 0.2), (-0.2, 0.2), (0.4, 1.2))
        ]
        return op(x=x, scale=four[0], offset=four[1], mean=four[2], variance=four[3], epsilon=1e-3, is_training=False)[
            0
        ]

    def up(self, x, channels: int, kernel: int = 3):
        """A transposed convolution whose size is worked out in the graph, as tf.layers does."""
        shape = tf.shape(x)
        size = tf.stack([shape[0], shape[1] * 2, shape[2] * 2, channels])
        y = tf.nn.conv2d_transpose(x, self.weight(kernel, kernel, channels, x.shape[3]) * 2.0, size, 2, "SAME")
        return tf.nn.bias_add(y, self.weight(channels, low=-0.1, high=0.1))


def unet(width: int = 6, depth: int = 3, seed: int = 1) -> None:
    """Convolutions, batch norm, max pools, transposed convolutions, skips; sigmoid head. uint8 input."""
    layers = Layers(seed)
    image = v1.placeholder(tf.uint8, [SIZE_PX, SIZE_PX, 3], INPUT)
    x, skips = tf.expand_dims(tf.cast(image, tf.float32), 0) / 127.5 - 1.0, []
    for level in range(depth):
        x = tf.nn.relu(layers.norm(layers.conv(x, width << level)))
        skips.append(x)
        x = tf.nn.max_pool2d(x, 2, 2, "SAME")
    x = tf.nn.leaky_relu(layers.conv(x, width << depth), 0.1)
    for level in reversed(range(depth)):
        x = tf.concat([layers.up(x, width << level), skips[level]], -1)
        x = tf.nn.leaky_relu(layers.norm(layers.conv(x, width << level)), 0.1)
    alpha = tf.nn.sigmoid(layers.conv(x, 1, 1))
    tf.identity(tf.squeeze(alpha * 255.0, [0, 3]), OUTPUT)


def deeplab() -> None:
    """Inverted residuals, dilations the old way, a pyramid with corner-aligned resizing; softmax head. Any size."""
    layers = Layers(2)
    image = v1.placeholder(tf.float32, [None, None, 3], INPUT)
    x = tf.expand_dims((image - tf.constant([123.7, 116.8, 103.9])) * 0.017, 0)
    x = tf.nn.relu6(layers.norm(layers.conv(x, 8, stride=2), tf.raw_ops.FusedBatchNorm))
    for stride, channels in ((2, 12), (2, 16), (1, 16)):
        y = tf.nn.relu6(layers.norm(layers.conv(x, 24, 1)))
        y = tf.nn.relu6(layers.norm(layers.depthwise(y, stride), tf.raw_ops.FusedBatchNormV2))
        y = layers.norm(layers.conv(y, channels, 1))
        x = x + y if x.shape[3] == channels else y
    branches = [layers.conv(x, 8, 1), spaced(layers, x, 2), spaced(layers, x, 3), whole(layers, x)]
    x = tf.nn.relu(layers.conv(tf.concat(branches, 3), 16, 1))
    x = v1.image.resize_bilinear(layers.conv(x, 2, 1), tf.shape(image)[:2], align_corners=True)
    tf.multiply(tf.nn.softmax(x)[0, :, :, 1], 255.0, OUTPUT)


def spaced(layers: Layers, x, rate: int):
    """A dilated convolution as TensorFlow 1 froze it."""
    size, ceiling = tf.shape(x)[1:3], tf.constant([rate, rate])
    extra = (ceiling - (size + 2 * rate) % ceiling) % ceiling
    before = tf.constant([rate, rate])
    paddings, crops = tf.stack([before, before + extra], 1), tf.stack([[0, 0], extra], 1)
    small = tf.raw_ops.SpaceToBatchND(input=x, block_shape=ceiling, paddings=paddings)
    mixed = tf.nn.conv2d(small, layers.weight(3, 3, x.shape[3], 8), 1, "VALID")
    return tf.nn.relu(tf.raw_ops.BatchToSpaceND(input=mixed, block_shape=ceiling, crops=crops))


def whole(layers: Layers, x):
    """The picture's mean, spread over it."""
    mean = layers.conv(tf.reduce_mean(x, [1, 2], keepdims=True), 8, 1)
    return v1.image.resize_bilinear(mean, tf.shape(x)[1:3], align_corners=True)


def slices() -> None:
    """TensorFlow 1 habits: BGR by slicing, means by split, mirror padding, old resizing, nearest; argmax head."""
    layers = Layers(4)
    image = v1.placeholder(tf.uint8, [None, None, 3], INPUT)
    bgr = tf.cast(image[..., ::-1], tf.float32)
    parts = [part - mean for part, mean in zip(tf.split(bgr, 3, 2), (103.9, 116.8, 123.7), strict=True)]
    x = tf.expand_dims(tf.concat(parts, 2), 0) * (1 / 64)
    x = tf.pad(x, [[0, 0], [3, 3], [3, 3], [0, 0]], "REFLECT")
    x = tf.nn.elu(tf.nn.conv2d(x, layers.weight(7, 7, 3, 8), 2, "VALID"))
    x = v1.image.resize_bilinear(x, [56, 56])
    x = tf.nn.selu(layers.conv(tf.pad(x, [[0, 0], [0, 1], [0, 1], [0, 0]]), 8, stride=2))
    x = tf.nn.avg_pool2d(x, 3, 2, "SAME")
    x = tf.nn.depth_to_space(layers.conv(x, 32), 2)
    mean, variance = tf.nn.moments(x, [1, 2], keepdims=True)
    x = (x - mean) * tf.math.rsqrt(variance + 1e-5)
    x = v1.image.resize_nearest_neighbor(tf.tanh(layers.conv(x, 4)), [112, 112])
    x = v1.image.resize_bilinear(layers.conv(x, 3), [SIZE_PX, SIZE_PX])
    best = tf.argmax(x, 3)[0]
    skin = tf.where(tf.equal(best, 1), tf.fill(tf.shape(best), 255.0), tf.zeros_like(best, tf.float32))
    tf.identity(skin, OUTPUT)


def training_switch() -> None:
    """is_training with a default: control flow whose outcome is known."""
    layers = Layers(5)
    image = v1.placeholder(tf.uint8, [SIZE_PX, SIZE_PX, 3], INPUT)
    training = v1.placeholder_with_default(False, [], "is_training")
    x = tf.nn.relu(layers.conv(tf.expand_dims(tf.cast(image, tf.float32), 0) / 255.0, 8, stride=4))
    x = v1.cond(training, lambda: tf.nn.dropout(x, 0.5, seed=1), lambda: layers.norm(x))
    x = tf.image.resize(layers.conv(x, 1), [SIZE_PX, SIZE_PX])
    tf.multiply(tf.squeeze(tf.sigmoid(x), [0, 3]), 255.0, OUTPUT)


def decides() -> None:
    """A branch that depends on how bright the picture is."""
    image = v1.placeholder(tf.uint8, [SIZE_PX, SIZE_PX, 3], INPUT)
    grey = tf.reduce_mean(tf.cast(image, tf.float32), 2)
    tf.identity(v1.cond(tf.reduce_mean(grey) > 100.0, lambda: grey, lambda: 255.0 - grey), OUTPUT)


def loop() -> None:
    """A loop that brightens until it is enough."""
    image = v1.placeholder(tf.uint8, [SIZE_PX, SIZE_PX, 3], INPUT)
    grey = tf.reduce_mean(tf.cast(image, tf.float32), 2)
    bright = v1.while_loop(lambda x: tf.reduce_mean(x) < 200.0, lambda x: x * 0.5 + 127.5, [grey])
    tf.identity(bright, OUTPUT)


def foreign() -> None:
    """Another model's names, as in the head model's file of the same name."""
    image = v1.placeholder(tf.float32, [1, SIZE_PX, SIZE_PX, 3], "img")
    tf.reduce_mean(image, 3, name="head_alpha")


def frozen(build: Callable[[], None]) -> bytes:
    """The graph that `build` makes, as a GraphDef."""
    with tf.Graph().as_default() as graph:
        v1.disable_control_flow_v2()
        build()
        return graph.as_graph_def().SerializeToString()


def answers(content: bytes, images: list[np.ndarray], source: str = INPUT, output: str = OUTPUT) -> list[np.ndarray]:
    """TensorFlow's output for each input."""
    definition = v1.GraphDef.FromString(content)
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(definition, name="")
        with v1.Session(graph=graph) as session:
            return [session.run(f"{output}:0", {f"{source}:0": image}) for image in images]


def pictures() -> np.ndarray:
    """(2, 224, 224, 3) uint8: soft blobs; the same with noise."""
    random = np.random.default_rng(7)
    coarse = random.uniform(0, 255, (1, 8, 9, 3)).astype(np.float32)
    soft = tf.image.resize(coarse, [SIZE_PX, SIZE_PX], "bicubic").numpy()[0]
    noisy = soft + random.normal(0, 8, soft.shape)
    return np.stack([soft, noisy]).clip(0, 255).astype(np.uint8)


def write_masks(folder: Path) -> None:
    images = pictures()
    contents = {build.__name__: frozen(build) for build in (unet, deeplab, slices, training_switch, decides, loop)}
    contents["written"] = (folder / "written.pb").read_bytes()
    stored = {"images": images}
    for name, content in contents.items():
        masks = answers(content, list(images))
        stored[name] = np.stack([mask[np.ix_(KEPT, KEPT)] for mask in masks]).astype(np.float32)
        (folder / f"{name}.pb").write_bytes(content)
        print(f"{name}: {len(content)} bytes, mean {masks[0].mean():.1f}, sd {masks[0].std():.1f}")
    (folder / "foreign.pb").write_bytes(frozen(foreign))
    np.savez_compressed(folder / "masks.npz", **stored)


def write_operations(folder: Path) -> None:
    stored = {}
    for name, case in CASES.items():
        random = np.random.default_rng(zlib.crc32(name.encode()))
        x = random.standard_normal(case.shape).astype(np.float32)

        def build(case=case):
            tf.identity(case.build(v1.placeholder(tf.float32, case.shape, INPUT)), OUTPUT)

        content = frozen(build)
        stored[f"{name}/graph"] = np.frombuffer(content, np.uint8)
        stored[f"{name}/input"] = x
        stored[f"{name}/output"] = answers(content, [x])[0]
    np.savez_compressed(folder / "operations.npz", **stored)
    print(f"{len(CASES)} operations")


def write_big(folder: Path) -> None:
    """A U-Net of about 9 M parameters: what the published file weighs."""
    folder.mkdir(parents=True, exist_ok=True)
    content = frozen(lambda: unet(width=43, depth=4, seed=9))
    images = pictures()
    mask = answers(content, [images[0]])[0]
    start = time.perf_counter()
    answers(content, [images[0]] * 3)
    print(f"{len(content) / 1e6:.1f} MB; TensorFlow {(time.perf_counter() - start) / 3:.2f} s a mask, start included")
    (folder / "segment_face.pb").write_bytes(content)
    np.savez(folder / "answer.npz", image=images[0], mask=mask)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--big", type=Path, help="only write the 36 MB graph and its answer to this folder")
    options = parser.parse_args()
    if options.big:
        write_big(options.big)
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    write_masks(options.folder)
    write_operations(options.folder)
    convert = [sys.executable, str(Path(__file__).with_name("convert_mask.py"))]
    for name in ("unet", "loop"):
        subprocess.run([*convert, str(options.folder / f"{name}.pb")], check=True)


if __name__ == "__main__":
    main()
