"""A frozen TensorFlow graph read from its file: names, operations, inputs, attributes, constants.

Field numbers: graph.proto, node_def.proto, attr_value.proto, tensor.proto, tensor_shape.proto and types.proto of
TensorFlow. What inference never needs (function library, devices, debug information) is skipped unread.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hrn_opt.errors import PackDamaged, PackIncomplete
from hrn_opt.tfgraph import wire

MAX_FILE_BYTES = 1 << 30  # the published graph has 33 MB; protobuf itself stops at 2 GiB
MAX_NODES = 100_000
MAX_ELEMENTS = 1 << 28  # of one tensor: 1 GiB of float32
MAX_AXES = 16

# types.proto; the two unsigned kinds torch can hardly compute with are widened below.
DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("<f4"), 2: np.dtype("<f8"), 3: np.dtype("<i4"), 4: np.dtype("u1"), 5: np.dtype("<i2"),
    6: np.dtype("i1"), 9: np.dtype("<i8"), 10: np.dtype("?"), 14: np.dtype("<u2"), 17: np.dtype("<u2"),
    19: np.dtype("<f2"), 22: np.dtype("<u4"), 23: np.dtype("<u8"),
}  # fmt: skip
BFLOAT16, HALF = 14, 19
WIDER: dict[np.dtype[Any], type[np.signedinteger[Any]]] = {
    np.dtype("<u2"): np.int32,
    np.dtype("<u4"): np.int64,
    np.dtype("<u8"): np.int64,
}

Attribute = int | float | bool | str | tuple[Any, ...] | NDArray[Any] | None
Attributes = dict[str, Attribute]


def whole_number(attributes: Attributes, key: str, default: int = 0) -> int:
    """The attribute, `default` where it is not set; TypeError where it is no whole number."""
    value = attributes.get(key)
    if value is None:
        return default
    if not isinstance(value, int):
        raise TypeError(f"{key} is {value!r}, no whole number")
    return value


def real_number(attributes: Attributes, key: str, default: float) -> float:
    """The attribute, `default` where it is not set; TypeError where it is no number."""
    value = attributes.get(key)
    if value is None:
        return default
    if not isinstance(value, (int, float)):
        raise TypeError(f"{key} is {value!r}, no number")
    return value


def listed(attributes: Attributes, key: str) -> tuple[Any, ...]:
    """The list attribute, () where it is not set; TypeError where it is no list."""
    value = attributes.get(key)
    if value is None:
        return ()
    if not isinstance(value, tuple):
        raise TypeError(f"{key} is {value!r}, no list")
    return value


@dataclass(frozen=True)
class Node:
    """One operation.

    inputs: "name", "name:2" for the third output, "^name" for an order without a value.
    attributes: numbers, text, tuples of them; shapes as tuples with -1 for unknown, None for unknown rank; data types
    as their number in types.proto; constants as arrays that share the file's memory.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    attributes: Attributes


@dataclass(frozen=True)
class Graph:
    """All operations in the file's order."""

    nodes: tuple[Node, ...]
    file_name: str


def read_graph(path: Path) -> Graph:
    """The graph in `path`; PackIncomplete where there is no file, PackDamaged where it is no whole graph."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise PackDamaged(f"{path.name} is over {MAX_FILE_BYTES >> 30} GiB; no skin mask is. Fetch the pack again.")
        content = path.read_bytes()
    except FileNotFoundError:
        raise PackIncomplete(f"{path.name} is not in {path.parent}; fetch the pack again.") from None
    except OSError as error:
        raise PackDamaged(f"{path} cannot be read ({error.strerror}); check its permissions and the disk.") from error
    return parse_graph(content, path.name)


def parse_graph(content: bytes, file_name: str = "the graph") -> Graph:
    """The graph in `content`; PackDamaged where the bytes are none."""
    if not content:
        raise PackDamaged(f"{file_name} is empty; fetch the pack again.")
    nodes = []
    try:
        for field in wire.read_fields(memoryview(content)):
            if field.number == 1:
                nodes.append(_node(wire.message(field)))
            if len(nodes) > MAX_NODES:
                raise wire.WireError(f"over {MAX_NODES} nodes")
    except ValueError as error:  # WireError, text that is no UTF-8, a tensor that does not fit its shape
        reason = f"it is cut short or garbled after {len(nodes)} operations: {error}"
        raise PackDamaged(f"{file_name} is no whole TensorFlow graph ({reason}); fetch the pack again.") from error
    if not nodes:
        raise PackDamaged(f"{file_name} holds no operations; fetch the pack again.")
    return Graph(tuple(nodes), file_name)


def _node(view: memoryview) -> Node:
    name = op = ""
    inputs: list[str] = []
    attributes: Attributes = {}
    for field in wire.read_fields(view):
        if field.number == 1:
            name = wire.text(field)
        elif field.number == 2:
            op = wire.text(field)
        elif field.number == 3:
            inputs.append(wire.text(field))
        elif field.number == 5:
            key, value = _entry(wire.message(field))
            attributes[key] = value
    if not name or not op:
        raise wire.WireError("an operation without a name or a kind")
    return Node(name, op, tuple(inputs), attributes)


def _entry(view: memoryview) -> tuple[str, Attribute]:
    """One entry of the attribute map."""
    key = ""
    value: Attribute = None
    for field in wire.read_fields(view):
        if field.number == 1:
            key = wire.text(field)
        elif field.number == 2:
            value = _attribute(wire.message(field))
    return key, value


def _attribute(view: memoryview) -> Attribute:
    value: Attribute = None
    for field in wire.read_fields(view):
        if field.number == 1:
            value = _list(wire.message(field))
        elif field.number in SCALARS:
            value = SCALARS[field.number](field)
        elif field.number == 8:
            value = _tensor(wire.message(field))
    return value


def _list(view: memoryview) -> tuple[Attribute, ...]:
    """A list attribute; TensorFlow fills one kind of element only."""
    values: list[Attribute] = []
    for field in wire.read_fields(view):
        if field.number in (3, 6):
            values.extend(wire.integers(field))
        elif field.number == 4:
            values.extend(wire.floats(field))
        elif field.number == 5:
            values.extend(bool(number) for number in wire.integers(field))
        elif field.number in SCALARS:
            values.append(SCALARS[field.number](field))
    return tuple(values)


def _float(field: wire.Field) -> float:
    numbers = wire.floats(field)
    if len(numbers) != 1:
        raise wire.WireError(f"field {field.number} should hold one number")
    return numbers[0]


def _label(field: wire.Field) -> str:
    return bytes(wire.message(field)).decode("utf-8", "replace")  # TensorFlow lets text attributes be any bytes


def _shape(field: wire.Field) -> tuple[int, ...] | None:
    """Sizes, -1 where unknown; None where even their number is."""
    sizes = []
    for part in wire.read_fields(wire.message(field)):
        if part.number == 2:
            entries = [entry for entry in wire.read_fields(wire.message(part)) if entry.number == 1]
            sizes.append(wire.signed(entries[-1]) if entries else 0)
        elif part.number == 3 and wire.signed(part):
            return None
    if len(sizes) > MAX_AXES or any(size < -1 for size in sizes):
        raise wire.WireError("a shape with impossible sizes")
    return tuple(sizes)


SCALARS: dict[int, Callable[[wire.Field], Attribute]] = {
    2: _label,
    3: wire.signed,
    4: _float,
    5: lambda field: bool(wire.signed(field)),
    6: wire.signed,
    7: _shape,
}


def _tensor(view: memoryview) -> NDArray[Any] | None:
    """A constant; None where its type has no numbers (text, resources)."""
    kind = 0
    shape: tuple[int, ...] | None = ()
    content: memoryview | None = None
    values: list[float] = []
    for field in wire.read_fields(view):
        if field.number == 1:
            kind = wire.signed(field)
        elif field.number == 2:
            shape = _shape(field)
        elif field.number == 4:
            content = wire.message(field)
        elif field.number == 5:
            values.extend(wire.floats(field))
        elif field.number == 6:
            values.extend(wire.doubles(field))
        elif field.number in (7, 10, 11, 13, 16, 17):
            values.extend(wire.integers(field))
    if kind not in DTYPES:
        return None
    if shape is None or min(shape, default=0) < 0 or math.prod(shape) > MAX_ELEMENTS:
        raise wire.WireError(f"a constant of shape {shape}")
    array = _from_bytes(content, kind, shape) if content is not None else _from_values(values, kind, shape)
    return _plain(array, kind)


def _from_bytes(content: memoryview, kind: int, shape: tuple[int, ...]) -> NDArray[Any]:
    dtype = DTYPES[kind]
    if len(content) != math.prod(shape) * dtype.itemsize:
        raise wire.WireError(f"a constant of shape {shape} in {len(content)} bytes")
    return np.frombuffer(content, dtype).reshape(shape)


def _from_values(values: list[float], kind: int, shape: tuple[int, ...]) -> NDArray[Any]:
    """Numbers listed one by one; the last one stands for all that follow, none at all for zeros."""
    count = math.prod(shape)
    if len(values) > count:
        raise wire.WireError(f"a constant of shape {shape} with {len(values)} numbers")
    as_bits = kind in (HALF, BFLOAT16)  # listed as the bits of the 16-bit number
    dtype = np.dtype("<u2") if as_bits else DTYPES[kind]
    try:
        listed = np.array(values or [0]).astype(np.int64 if as_bits else dtype, casting="unsafe").astype(dtype)
    except (OverflowError, TypeError) as error:
        raise wire.WireError(f"a constant with numbers that do not fit its type ({error})") from error
    if len(values) <= 1:
        return np.broadcast_to(listed.view(DTYPES[kind])[0], shape)  # one number in memory, whatever the shape claims
    array = np.full(count, listed[-1], dtype)
    array[: len(values)] = listed
    return array.view(DTYPES[kind]).reshape(shape)


def _plain(array: NDArray[Any], kind: int) -> NDArray[Any]:
    """The same numbers in a type that torch computes with: every floating kind as float32."""
    if kind == BFLOAT16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    if array.dtype.kind == "f":
        return array.astype(np.float32, copy=False)
    return array.astype(WIDER[array.dtype]) if array.dtype in WIDER else array
