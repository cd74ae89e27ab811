"""Numeric arrays out of MATLAB 5 files (.mat, "-v6" and "-v7"), read straight into numpy.

Three small files of the pack need it, once, when the pack is prepared: scipy would do, at 140 MB installed for nothing
else. It is the judge in tests instead. Layout after "MAT-File Format" (MathWorks, R2022a), chapter 1.
"""

from __future__ import annotations

import mmap
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hrn_opt.errors import PackDamaged

_HEADER_BYTES = 128
_VERSION_AT, _VERSION_5 = 124, 0x0100
_BYTE_ORDERS = {b"IM": "<", b"MI": ">"}
_TAG_BYTES = _ALIGNMENT_BYTES = 8
_SMALL_DATA_BYTES = 4
_MI_MATRIX, _MI_COMPRESSED = 14, 15
_STORED_DTYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
# Array classes; the bulk may be stored in a narrower type than its class.
_CLASS_DTYPES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_COMPLEX_FLAG = 0x0800
# The pack's largest array has 107127 × 80 float64, 69 MB; more than this is not unpacked.
_MAX_UNPACKED_BYTES = 1 << 30


class _Malformed(Exception):
    """The bytes do not follow the format; the message says where."""


@dataclass(frozen=True)
class _Element:
    """One tagged run of bytes. kind: the format's type number.

    content: the bytes without tag and padding.
    """

    kind: int
    content: memoryview


def read_mat(path: Path, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Those of the named arrays that the file holds, in their MATLAB class's dtype and shape (at least 2-D).

    They may be read-only views of the mapped file. Arrays that are not real and numeric are passed over.
    """
    try:
        with path.open("rb") as file:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except ValueError:
        raise PackDamaged(f"{path.name} is empty; fetch the pack again.") from None
    try:
        order = _byte_order(content)
        found = {}
        for element in _elements(content[_HEADER_BYTES:], order):
            matrix = _unpacked(element, order)
            if matrix.kind == _MI_MATRIX:
                found.update(_named_array(matrix.content, order, names))
        return found
    except (_Malformed, zlib.error) as error:
        raise PackDamaged(f"{path.name} is truncated or damaged ({error}); fetch the pack again.") from error


def _byte_order(content: memoryview) -> str:
    order = _BYTE_ORDERS.get(bytes(content[126:_HEADER_BYTES]))
    if order is None or int(np.frombuffer(content, order + "u2", 1, _VERSION_AT)[0]) != _VERSION_5:
        raise _Malformed("no header of a MATLAB 5 file")
    return order


def _elements(content: memoryview, order: str) -> Iterator[_Element]:
    """The elements that lie one after the other in `content`."""
    while len(content):
        if len(content) < _TAG_BYTES:
            raise _Malformed("an element's tag is cut off")
        kind, size = (int(word) for word in np.frombuffer(content, order + "u4", 2))
        start = _TAG_BYTES
        if kind >> 16:  # a small element: its size lies in the upper half of the type, its data in the tag
            kind, size, start = kind & 0xFFFF, kind >> 16, _SMALL_DATA_BYTES
            if size > _SMALL_DATA_BYTES:
                raise _Malformed("a small element is too long")
        if start + size > len(content):
            raise _Malformed(f"an element of {size} bytes ends after {len(content) - start}")
        yield _Element(kind, content[start : start + size])
        end = _TAG_BYTES if start == _SMALL_DATA_BYTES else start + size
        padding = 0 if kind == _MI_COMPRESSED else -end % _ALIGNMENT_BYTES
        content = content[end + padding :]


def _unpacked(element: _Element, order: str) -> _Element:
    """The element itself, or the one inside it where it is compressed."""
    if element.kind != _MI_COMPRESSED:
        return element
    unpacker = zlib.decompressobj()
    content = unpacker.decompress(element.content, _MAX_UNPACKED_BYTES)
    if not unpacker.eof:
        raise _Malformed("a compressed element is cut off or too large")
    inner = next(_elements(memoryview(content), order), None)
    if inner is None:
        raise _Malformed("a compressed element is empty")
    return inner


def _named_array(content: memoryview, order: str, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """One array under its name, or nothing when it is not asked for or not real and numeric."""
    parts = _elements(content, order)
    try:
        flags, shape, name = (next(parts) for _ in range(3))
        flag_word = int(_values(flags, order)[0])
        title = bytes(name.content).decode("latin-1")
        class_dtype = _CLASS_DTYPES.get(flag_word & 0xFF)
        if title not in names or class_dtype is None or flag_word & _COMPLEX_FLAG:
            return {}
        values = _values(next(parts), order).astype(class_dtype, copy=False)
    except (StopIteration, IndexError):
        raise _Malformed("an array has no data") from None
    dimensions = tuple(int(size) for size in _values(shape, order))
    if min(dimensions, default=0) < 0 or values.size != np.prod(dimensions, dtype=object):
        raise _Malformed(f"array {title!r} of shape {dimensions} holds {values.size} values")
    return {title: values.reshape(dimensions, order="F")}


def _values(element: _Element, order: str) -> np.ndarray:
    if element.kind not in _STORED_DTYPES:
        raise _Malformed(f"data of unknown type {element.kind}")
    dtype = np.dtype(order + _STORED_DTYPES[element.kind])
    if len(element.content) % dtype.itemsize:
        raise _Malformed("data ends within a number")
    return np.frombuffer(element.content, dtype)
