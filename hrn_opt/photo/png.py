"""Reading a PNG: only the chunks that make the picture go to Pillow, which would refuse one for its long texts."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass, field

from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from hrn_opt.photo.limits import MOST_PARTS, PhotoLimits, check_parts, check_size

_COLOUR_TYPE_AT, _GREY_ALPHA = 25, 4  # in the header, which comes first
_SIGNATURE_BYTES = 8
# The picture and its palette. What else is said is read here; animation chunks are left out, so that the still
# picture that every viewer shows comes out.
_PICTURE_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_NOTED_CHUNKS = (b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"cICP", b"sBIT", b"eXIf")
_MOST_PROFILE_BYTES = 8_000_000  # the largest that printers' profiles reach; what unpacks to more is no profile


@dataclass
class Chunks:
    """picture: the file without its notes.   notes: the chunks that say how it is to be read."""

    picture: bytes
    notes: dict[bytes, bytes] = field(default_factory=dict)


def read_png(encoded: bytes, label: str, limits: PhotoLimits) -> tuple[Image.Image, Chunks]:
    """The still picture, loaded, not turned yet, and what its chunks say."""
    chunks = chunks_of(encoded, label)
    with PngImageFile(io.BytesIO(chunks.picture)) as image:
        check_size(image.width, image.height, label, limits)
        image.load()
        grey = encoded[_COLOUR_TYPE_AT] == _GREY_ALPHA and image.mode == "RGBA"  # as Pillow opens it with 16 bits
        return image.convert("LA") if grey else image, chunks


def chunks_of(encoded: bytes, label: str) -> Chunks:
    """What the file is made of, walked over once; nothing is unpacked."""
    kept, chunks = [encoded[:_SIGNATURE_BYTES]], Chunks(b"")
    at, count = _SIGNATURE_BYTES, 0
    view = memoryview(encoded)
    while at + 8 <= len(encoded):
        length, name = struct.unpack_from(">I4s", encoded, at)
        content = view[at + 8 : at + 8 + length]
        if name in _PICTURE_CHUNKS:
            kept.append(view[at : at + 12 + length])
        elif name in _NOTED_CHUNKS:
            chunks.notes.setdefault(name, bytes(content))
        at, count = at + 12 + length, count + 1
        check_parts(count, MOST_PARTS, label)
        if name == b"IEND":
            break
    chunks.picture = b"".join(kept)
    return chunks


def profile_of(chunks: Chunks) -> bytes | None:
    """The embedded ICC profile; nothing where it is damaged, or unpacks to more than it may."""
    name, _, packed = chunks.notes.get(b"iCCP", b"").partition(b"\0")
    if not name or packed[:1] != b"\0":
        return None
    unpacker = zlib.decompressobj()
    try:
        profile = unpacker.decompress(packed[1:], _MOST_PROFILE_BYTES)
    except zlib.error:
        return None
    return profile if unpacker.eof else None
