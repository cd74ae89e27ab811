"""Reading a PNG: only the chunks that make the picture go to Pillow, which would refuse one for its long texts."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from hrn_opt.photo.depth import highest_of_significant_bits, levels_of_16_bits, to_8_bit, white_of
from hrn_opt.photo.limits import MOST_PARTS, PhotoLimits, check_parts, check_size

_DEPTH_AT, _COLOUR_TYPE_AT, _GREY_ALPHA = 24, 25, 4  # in the header, which comes first
# Of 16-bit colours Pillow keeps the high bytes alone. Under these names, by colour type, it gives the low bytes: those
# for the other order of bytes, and of grey with alpha all four, as if they were colours of their own.
_LOW_BYTES = {2: "RGB;16L", 6: "RGBA;16L", _GREY_ALPHA: "RGBA"}
_TOP_BIT = 128  # of a high byte: where it is set, all 16 bits are in use
_SIGNATURE_BYTES = 8
# The picture and its palette. What else is said is read here; animation chunks are left out, so that the still
# picture that every viewer shows comes out.
_PICTURE_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_NOTED_CHUNKS = (b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"cICP", b"sBIT", b"eXIf")
_MOST_PROFILE_BYTES = 8_000_000  # the largest that printers' profiles reach; what unpacks to more is no profile


@dataclass
class Chunks:
    """picture: the file without its notes.
    notes: the chunks that say how it is to be read.
    """

    picture: bytes
    notes: dict[bytes, bytes] = field(default_factory=dict)


def read_png(encoded: bytes, label: str, limits: PhotoLimits) -> tuple[Image.Image, Chunks]:
    """The still picture, loaded, not turned yet, and what its chunks say."""
    chunks = chunks_of(encoded, label)
    image: Image.Image
    with PngImageFile(io.BytesIO(chunks.picture)) as image:
        check_size(image.width, image.height, label, limits)
        image.load()
    kind = encoded[_COLOUR_TYPE_AT]
    if encoded[_DEPTH_AT] != 16 or kind not in _LOW_BYTES:
        return image, chunks
    image = image.convert("LA") if kind == _GREY_ALPHA else image  # as which Pillow opens it only with 8 bits
    extrema = cast("tuple[tuple[int, int], ...]", image.getextrema())  # as it is for several bands
    dark = max(most for _, most in extrema[: _colours(image)]) < _TOP_BIT
    return _with_low_bytes(image, chunks, _LOW_BYTES[kind]) if dark else image, chunks


def _colours(image: Image.Image) -> int:
    return len(image.getbands()) - image.mode.endswith("A")


def _with_low_bytes(high: Image.Image, chunks: Chunks, name: str) -> Image.Image:
    """The same with 8 bits of those that are in use, where they may lie at the low end of the 16."""
    with PngImageFile(io.BytesIO(chunks.picture)) as image:
        image.tile = [tile._replace(args=name) for tile in image.tile]
        image.load()
    low = [image.getchannel(at) for at in ((1, 3) if high.mode == "LA" else range(len(high.getbands())))]

    def values(channel: int) -> NDArray[np.uint16]:
        both: NDArray[np.uint16] = np.asarray(high.getchannel(channel)).astype(np.uint16) << 8 | np.asarray(
            low[channel]
        )
        return both

    in_use = np.zeros(65536, bool)
    for channel in range(_colours(high)):
        in_use[values(channel)] = True
    present = np.flatnonzero(in_use).astype(np.uint16)
    bits = max(chunks.notes.get(b"sBIT", b"")[: _colours(high)], default=0)
    highest = highest_of_significant_bits(present, bits)
    levels = levels_of_16_bits(white_of(present, "I;16", highest))
    channels = [levels[values(channel)] for channel in range(_colours(high))]
    if high.mode.endswith("A"):
        channels.append(to_8_bit(values(len(channels)), "I;16", "", highest))
    return Image.merge(high.mode, [Image.fromarray(channel) for channel in channels])


def chunks_of(encoded: bytes, label: str) -> Chunks:
    """What the file is made of, walked over once; nothing is unpacked."""
    kept: list[bytes | memoryview] = [encoded[:_SIGNATURE_BYTES]]
    chunks = Chunks(b"")
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
