"""A small frozen skin-mask graph, written without TensorFlow: for packs with made-up weights.

The reader is hrn_opt/tfgraph; TensorFlow runs what is written here (tools/mask_graph_reference.py).
"""

from __future__ import annotations

import numpy as np

from hrn_opt.tfgraph.graphdef import DTYPES
from testing.synthetic_pack.wire import field_bytes

FLOAT, INT32, UINT8, BOOL = 1, 3, 4, 10  # types.proto
TYPE_CODES = {dtype: code for code, dtype in reversed(DTYPES.items()) if code not in (14, 17)}
PRODUCER = 134  # GraphDef version that TensorFlow 1.15 writes
SIZE_PX, CELLS = 224, 14  # the mask is made on a grid of 14×14 cells
FACE_LOGIT = 4.0  # how sure the mask is in the middle of the crop and at its border
FACE_RADIUS = 0.85  # of half the crop


class TypeCode(int):
    """An attribute that names a data type rather than a number."""


def shape_bytes(shape: tuple[int, ...]) -> bytes:
    """A TensorShapeProto; -1 stands for an unknown size."""
    return b"".join(field_bytes(2, field_bytes(1, size)) for size in shape)


def tensor_bytes(array: np.ndarray) -> bytes:
    """A TensorProto."""
    content = np.ascontiguousarray(array).tobytes()
    return field_bytes(1, TYPE_CODES[array.dtype]) + field_bytes(2, shape_bytes(array.shape)) + field_bytes(4, content)


def attribute_bytes(value: TypeCode | bool | int | float | str | list[int] | tuple | np.ndarray) -> bytes:
    """An AttrValue; a tuple is a shape, a list is a list of whole numbers."""
    if isinstance(value, TypeCode):
        return field_bytes(6, int(value))
    if isinstance(value, bool):
        return field_bytes(5, value)
    if isinstance(value, np.ndarray):
        return field_bytes(8, tensor_bytes(value))
    if isinstance(value, tuple):
        return field_bytes(7, shape_bytes(value))
    if isinstance(value, list):
        return field_bytes(1, b"".join(field_bytes(3, number) for number in value))
    return field_bytes({int: 3, float: 4, str: 2}[type(value)], value)


class GraphWriter:
    """Collects nodes; `node` and `constant` return the new node's name, ready to be an input."""

    def __init__(self):
        self._nodes: list[bytes] = []

    def node(self, op: str, name: str, *inputs: str, **attributes) -> str:
        parts = [field_bytes(1, name), field_bytes(2, op), *(field_bytes(3, source) for source in inputs)]
        for key, value in attributes.items():
            parts.append(field_bytes(5, field_bytes(1, key) + field_bytes(2, attribute_bytes(value))))
        self._nodes.append(field_bytes(1, b"".join(parts)))
        return name

    def constant(self, name: str, array: np.ndarray) -> str:
        return self.node("Const", name, dtype=TypeCode(TYPE_CODES[array.dtype]), value=array)

    def content(self) -> bytes:
        """The whole GraphDef, closed by its version record."""
        return b"".join(self._nodes) + field_bytes(4, field_bytes(1, PRODUCER))


def skin_graph(seed: int, width: int = 8) -> bytes:
    """A frozen graph whose mask is an ellipse in the middle of the crop, bent by what the picture shows.

    width: channels of its first convolution; the file holds about 30 * width ** 2 + 600 * width bytes.
    """
    graph, random = GraphWriter(), np.random.default_rng(seed)
    image = graph.node("Placeholder", "input_image", dtype=TypeCode(UINT8), shape=(SIZE_PX, SIZE_PX, 3))
    x = graph.node("Cast", "as_float", image, SrcT=TypeCode(UINT8), DstT=TypeCode(FLOAT))
    axis = graph.constant("batch_axis", np.array(0, np.int32))
    x = graph.node("ExpandDims", "batch", x, axis, T=TypeCode(FLOAT), Tdim=TypeCode(INT32))
    x = _with_number(graph, "Mul", "unit", x, 1 / 127.5)
    x = _with_number(graph, "Sub", "centred", x, 1.0)
    for stage, (channels, wanted) in enumerate(
        ((3, width), (width, width), (width, 2 * width), (2 * width, 2 * width))
    ):
        x = _halved(graph, random, f"stage{stage}", x, channels, wanted)
    x = _convolution(graph, random, "Conv2D", "logits", x, (1, 1, 2 * width, 1), 1, "SAME")
    x = _with_number(graph, "Mul", "calm", x, 0.3)
    x = graph.node("AddV2", "placed", x, graph.constant("prior", _face_prior()), T=TypeCode(FLOAT))
    size = graph.constant("size", np.array([SIZE_PX, SIZE_PX], np.int32))
    x = graph.node("ResizeBilinear", "full", x, size, T=TypeCode(FLOAT), align_corners=False, half_pixel_centers=True)
    x = graph.node("Sigmoid", "share", x, T=TypeCode(FLOAT))
    x = _with_number(graph, "Mul", "grey", x, 255.0)
    graph.node("Squeeze", "output_alpha", x, T=TypeCode(FLOAT), squeeze_dims=[0, 3])
    return graph.content()


def _with_number(graph: GraphWriter, op: str, name: str, x: str, number: float) -> str:
    return graph.node(op, name, x, graph.constant(f"{name}/number", np.array(number, np.float32)), T=TypeCode(FLOAT))


def _halved(graph: GraphWriter, random: np.random.Generator, name: str, x: str, channels: int, wanted: int) -> str:
    """Depthwise at stride 2, pointwise, normalisation, ReLU6."""
    x = _convolution(graph, random, "DepthwiseConv2dNative", f"{name}/depthwise", x, (3, 3, channels, 1), 2, "SAME")
    x = _convolution(graph, random, "Conv2D", f"{name}/pointwise", x, (1, 1, channels, wanted), 1, "VALID")
    moments = {"scale": (0.8, 1.2), "offset": (-0.2, 0.2), "mean": (-0.2, 0.2), "variance": (0.2, 0.5)}
    names = [
        graph.constant(f"{name}/{key}", random.uniform(low, high, wanted).astype(np.float32))
        for key, (low, high) in moments.items()
    ]
    options = {"T": TypeCode(FLOAT), "U": TypeCode(FLOAT), "epsilon": 1e-3, "is_training": False, "data_format": "NHWC"}
    x = graph.node("FusedBatchNormV3", f"{name}/normal", x, *names, **options)
    return graph.node("Relu6", f"{name}/active", x, T=TypeCode(FLOAT))


def _convolution(graph, random, op: str, name: str, x: str, shape: tuple[int, ...], stride: int, padding: str) -> str:
    fan_in = shape[0] * shape[1] * (shape[2] if op == "Conv2D" else 1)
    weight = (random.standard_normal(shape) * (2 / fan_in) ** 0.5).astype(np.float32)
    strides = [1, stride, stride, 1]
    options = {"T": TypeCode(FLOAT), "strides": strides, "padding": padding, "data_format": "NHWC"}
    return graph.node(op, name, x, graph.constant(f"{name}/weight", weight), **options)


def _face_prior() -> np.ndarray:
    """(1, 14, 14, 1) float32 logits: positive inside a face-sized ellipse."""
    rows = (np.arange(CELLS) + 0.5) / CELLS * 2 - 1  # -1..1
    radius = np.hypot(rows[:, None], rows[None, :] * 1.2) / FACE_RADIUS  # a face is higher than wide
    return (FACE_LOGIT * (1 - radius) * 2).clip(-FACE_LOGIT, FACE_LOGIT).astype(np.float32)[None, :, :, None]
