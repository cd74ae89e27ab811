"""The protobuf wire format, as far as reading a frozen TensorFlow graph needs it.

Format: https://protobuf.dev/programming-guides/encoding. Nothing here recurses, and nothing is copied while reading.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # the wire types in use; 3 and 4 (groups) never were in GraphDef
MAX_VARINT_BYTES = 10  # 64 bits, seven a byte
INT64_SIGN, INT64_SPAN = 1 << 63, 1 << 64


class WireError(ValueError):
    """The bytes are no protobuf message."""


class Field(NamedTuple):
    """One field of a message.

    value: an unsigned int for VARINT; the raw bytes, not copied, for every other kind.
    """

    number: int
    kind: int
    value: int | memoryview


class Varint(NamedTuple):
    """A decoded number and the offset of the byte after it."""

    value: int
    end: int


def read_varint(view: memoryview, start: int) -> Varint:
    """The unsigned number that starts at `start`."""
    value = 0
    for count, byte in enumerate(view[start : start + MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return Varint(value % INT64_SPAN, start + count + 1)
    raise WireError(f"a number at byte {start} does not end")


def read_fields(view: memoryview) -> Iterator[Field]:
    """The fields of one message in their order; WireError where the bytes stop making sense."""
    offset = 0
    while offset < len(view):
        key, offset = read_varint(view, offset)
        number, kind = key >> 3, key & 7
        if number == 0:
            raise WireError(f"field number 0 before byte {offset}")
        if kind == VARINT:
            value, offset = read_varint(view, offset)
            yield Field(number, kind, value)
            continue
        length, offset = _payload(view, offset, kind)
        if offset + length > len(view):
            raise WireError(f"{length} bytes are announced at byte {offset}, {len(view) - offset} are there")
        yield Field(number, kind, view[offset : offset + length])
        offset += length


def _payload(view: memoryview, offset: int, kind: int) -> Varint:
    """The length of a field's bytes, and where they start."""
    if kind == BYTES:
        return read_varint(view, offset)
    if kind == FIXED32:
        return Varint(4, offset)
    if kind == FIXED64:
        return Varint(8, offset)
    raise WireError(f"wire type {kind} before byte {offset}")


def message(field: Field) -> memoryview:
    """The field's bytes, where a nested message or a string has to be."""
    if field.kind != BYTES:
        raise WireError(f"field {field.number} should hold bytes")
    return _bytes(field)


def _bytes(field: Field) -> memoryview:
    assert isinstance(field.value, memoryview)  # as for every kind but VARINT
    return field.value


def _number(field: Field) -> int:
    assert isinstance(field.value, int)  # as for VARINT
    return _signed(field.value)


def text(field: Field) -> str:
    """The field's bytes as text."""
    return bytes(message(field)).decode("utf-8")


def signed(field: Field) -> int:
    """The field as a signed 64-bit number."""
    if field.kind != VARINT:
        raise WireError(f"field {field.number} should hold a number")
    return _number(field)


def _signed(value: int) -> int:
    return value - INT64_SPAN if value >= INT64_SIGN else value


def integers(field: Field) -> list[int]:
    """Signed numbers of a repeated field, packed into one or a single one."""
    if field.kind == VARINT:
        return [_number(field)]
    view, offset = message(field), 0
    numbers: list[int] = []
    while offset < len(view):
        value, offset = read_varint(view, offset)
        numbers.append(_signed(value))
    return numbers


def floats(field: Field) -> list[float]:
    """float32 numbers of a repeated field, packed into one or a single one."""
    return _reals(field, FIXED32, "f")


def doubles(field: Field) -> list[float]:
    """float64 numbers of a repeated field, packed into one or a single one."""
    return _reals(field, FIXED64, "d")


def _reals(field: Field, single: int, code: str) -> list[float]:
    if field.kind not in (single, BYTES) or len(_bytes(field)) % struct.calcsize(code):
        raise WireError(f"field {field.number} should hold floating point numbers")
    content = _bytes(field)
    return list(struct.unpack(f"<{len(content) // struct.calcsize(code)}{code}", content))
