"""Writing the protobuf wire format, as far as a frozen TensorFlow graph needs it; hrn_opt/tfgraph/wire.py reads it."""

from __future__ import annotations

import struct

from hrn_opt.tfgraph.wire import BYTES, FIXED32, INT64_SPAN, VARINT


def varint_bytes(value: int) -> bytes:
    """One number, encoded; negative ones in two's complement, as int64 asks for."""
    value %= INT64_SPAN
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def field_bytes(number: int, value: int | float | bytes | str) -> bytes:
    """One field, encoded: int and bool as varint, float as 32 bits, bytes and str with their length."""
    if isinstance(value, int):
        return varint_bytes(number << 3 | VARINT) + varint_bytes(value)
    if isinstance(value, float):
        return varint_bytes(number << 3 | FIXED32) + struct.pack("<f", value)
    content = value.encode() if isinstance(value, str) else value
    return varint_bytes(number << 3 | BYTES) + varint_bytes(len(content)) + content
