"""Reading a TIFF: its directories are looked at first, as Pillow lists every strip and reads some kinds wrongly."""

from __future__ import annotations

import io
import math
import struct
import warnings
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from hrn_opt.photo.depth import to_8_bit, white_of
from hrn_opt.photo.kinds import damaged, raw_photo, unsupported
from hrn_opt.photo.limits import PhotoLimits, check_parts, check_size
from hrn_opt.photo.orientation import turned

# Pillow warns of odd tags that do the pixels no harm. Set once, when this module is imported: a filter that is set
# and taken back around a call would be seen, and left behind, by other threads.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.TiffImagePlugin")

_REDUCED, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _COLOURS = 254, 256, 257, 258, 259, 262
_STRIPS, _SAMPLES, _ROWS, _STRIP_BYTES, _HIGHEST, _PLANAR = 273, 277, 278, 279, 281, 284
_TILES, _TILE_BYTES, _SUBS, _SAMPLE_KIND, _SUBSAMPLING, _DNG_VERSION = 324, 325, 330, 339, 530, 50706
_TYPES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}  # the integer ones, which say everything that is asked here
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_PER_PART = (_STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES)
_ASKED = (_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _COLOURS, _SAMPLES, _HIGHEST, _PLANAR, _SAMPLE_KIND, _SUBSAMPLING)
_MOST_PROFILE_BYTES = 8_000_000  # the largest that printers' profiles reach
_MOST_TAGS, _MOST_PAGES, _MOST_VALUES = 500, 8, 64
_MOST_SAMPLES = 6  # as Pillow has it
_SHARED_BYTES = 65_536  # small values, such as the two resolutions, may stand in one place
_LEAST_TILE_PX = 16  # TIFF 6.0, section 15
_ORIENTATION, _PREDICTOR, _TILE_WIDTH, _EXTRA, _XMP, _PROFILE = 274, 317, 322, 338, 700, 34675
_LEFT_OUT = (_ORIENTATION, _EXTRA, _SUBS, _XMP)
_WHITE_IS_ZERO, _GREY, _RGB, _CMYK, _YCBCR, _SENSOR, _LINEAR_SENSOR = 0, 1, 2, 5, 6, 32803, 34892
_COLOUR_NAMES = {0: "grey", 1: "grey", 2: "RGB", 3: "palette", 4: "mask", 5: "CMYK", 6: "YCbCr", 8: "Lab", 9: "Lab"}
_WHOLE, _SIGNED, _FLOATING = 1, 2, 3
_PREMULTIPLIED, _ALPHA = 1, 2


@dataclass(frozen=True)
class Entry:
    """One tag.

    at: where its values stand.
    entry_at: where the tag itself stands.
    """

    kind: int
    count: int
    at: int
    entry_at: int


@dataclass(frozen=True)
class Layout:
    """The directory that the picture is read from, as it stands in a file of that byte order and offset size."""

    order: str
    big: bool
    stream: BinaryIO
    page: int
    entries: dict[int, Entry]
    start: int

    def values(self, tag: int, default: int | None = None) -> tuple[int, ...]:
        """The tag's values; `default` alone where it is not there."""
        entry = self.entries.get(tag)
        if entry is None or entry.kind not in _TYPES or not entry.count:
            return () if default is None else (default,)
        pattern = f"{self.order}{entry.count}{_TYPES[entry.kind]}"
        self.stream.seek(entry.at)
        return struct.unpack(pattern, self.stream.read(struct.calcsize(pattern)))

    def value(self, tag: int, default: int = 0) -> int:
        return self.values(tag, default)[0]

    @property
    def size_wh(self) -> tuple[int, int]:
        return self.value(_WIDTH), self.value(_HEIGHT)


def read_tiff(stream: BinaryIO, label: str, limits: PhotoLimits) -> tuple[Image.Image, int | None]:
    """The first full picture, loaded and upright, and the highest value that it may hold where the file says so."""
    try:
        layout = _layout(stream, label)
        _check(layout, label, limits)
        highest = layout.value(_HIGHEST) or None
        bits = layout.values(_BITS, 1)
        if highest is None and bits == (12,):
            highest = 4095
    except (struct.error, OverflowError):
        raise damaged(label) from None
    samples = layout.value(_SAMPLES, 1)
    if samples > _MOST_SAMPLES:
        raise unsupported(_description(layout), label)
    if samples > 1 and max(bits) == min(bits) == 16 and layout.value(_SAMPLE_KIND, 1) == _WHOLE:
        if layout.value(_PLANAR, 1) == 2:
            return _deep(layout, label, _planes_apart(layout, label)), None
        if layout.value(_PREDICTOR, 1) == 1:
            return _deep(layout, label, _planes_together(layout)), None
    image = _by_pillow(layout, label)
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I;16") and layout.value(_COLOURS) == _WHITE_IS_ZERO:  # Pillow leaves it so in 16 bits
        stored = np.asarray(image)
        image = Image.fromarray((white_of(stored, image.mode, highest) - stored).astype(np.uint16))
    elif image.mode == "I":
        image = Image.fromarray(_levels_of_whole_numbers(layout, label, np.asarray(image), highest))
    image.info["icc_profile"] = profile
    return image, highest


def _levels_of_whole_numbers(
    layout: Layout, label: str, stored: NDArray[Any], highest: int | None
) -> NDArray[np.uint8]:
    """(H, W) uint8 of grey that Pillow reads as signed numbers of 32 bits, whatever they are."""
    bits, signed = layout.value(_BITS), layout.value(_SAMPLE_KIND, _WHOLE) == _SIGNED
    if signed and stored.min() < 0:  # nobody knows whether black is zero or the lowest
        raise unsupported(_description(layout), label)
    if not signed:
        stored = stored.view(np.uint32)
    white, full = white_of(stored, "I" if bits == 32 else "I;16", highest), 2 ** (bits - signed) - 1
    return to_8_bit(stored, "I", label, full if white > 65535 else min(white, full))


def _by_pillow(layout: Layout, label: str) -> Image.Image:
    stream = layout.stream
    luma = layout.value(_COLOURS) == _YCBCR and layout.value(_COMPRESSION, 1) == 1
    if luma and layout.values(_SUBSAMPLING, 2)[:2] != (1, 1):
        raise unsupported(_description(layout), label)
    if luma:
        stream = io.BytesIO(_patched(layout, {_COLOURS: (_RGB,)}))  # Pillow unpacks these for RGB only
    stream.seek(0)
    try:
        image = TiffImageFile(stream)
        image.seek(layout.page)
    except (SyntaxError, KeyError, ValueError, OSError, TypeError):  # whole, as its directory was read: Pillow's limit
        raise unsupported(_description(layout), label) from None
    image.info.pop("xmp", None)  # else Pillow turns the picture by what XMP says
    image.load()
    return Image.merge("YCbCr", image.split()).convert("RGB") if luma else image


def _deep(layout: Layout, label: str, planes: NDArray[np.uint16]) -> Image.Image:
    """Of 16-bit channels, (channels, H, W). Pillow would cut off the low bits, where a file of 12 has its picture."""
    mode = {_GREY: "L", _RGB: "RGB", _CMYK: "CMYK"}.get(layout.value(_COLOURS))
    if mode is None or len(planes) < len(mode):
        raise unsupported(_description(layout), label)
    if len(planes) > len(mode) and mode != "CMYK":
        mode += {_PREMULTIPLIED: "a", _ALPHA: "A"}.get(layout.value(_EXTRA), "")  # else nobody knows what it is
    levels = to_8_bit(planes[: len(mode)], "I;16", label, layout.value(_HIGHEST) or None)
    channels = [Image.fromarray(plane) for plane in levels]
    image = turned(Image.merge(mode, channels), layout.value(_ORIENTATION, 1))
    profile = layout.entries.get(_PROFILE)
    if profile is not None:
        layout.stream.seek(profile.at)
        image.info["icc_profile"] = layout.stream.read(min(profile.count, _MOST_PROFILE_BYTES))
    return image


def _planes_apart(layout: Layout, label: str) -> NDArray[np.uint16]:
    """(channels, H, W) of a picture whose channels lie one after another, each read as a grey picture of its own."""
    parts = (_TILES, _TILE_BYTES) if _TILES in layout.entries else (_STRIPS, _STRIP_BYTES)
    offsets, sizes = (layout.values(tag) for tag in parts)
    samples = layout.value(_SAMPLES)
    if not offsets or len(offsets) % samples or len(sizes) != len(offsets):
        raise unsupported(_description(layout), label)
    each = len(offsets) // samples
    firsts = range(0, len(offsets), each)
    return np.stack(
        [_grey(layout, {tag: layout.values(tag)[first : first + each] for tag in parts}) for first in firsts]
    )


def _planes_together(layout: Layout) -> NDArray[np.uint16]:
    """(channels, H, W) of a picture whose channels lie side by side: a grey one that is so many times as wide."""
    samples, (width, height) = layout.value(_SAMPLES), layout.size_wh
    wide: dict[int, tuple[int, ...]] = {_WIDTH: (width * samples,)}
    if _TILES in layout.entries:
        wide[_TILE_WIDTH] = (layout.value(_TILE_WIDTH) * samples,)
    channels: NDArray[np.uint16] = _grey(layout, wide).reshape(height, width, samples).transpose(2, 0, 1)
    return channels


def _grey(layout: Layout, changes: dict[int, tuple[int, ...]]) -> NDArray[np.uint16]:
    """(H, W) uint16 as Pillow reads the file when its directory speaks of one channel."""
    own = {_COLOURS: (_GREY,), _SAMPLES: (1,), _BITS: (16,), _SAMPLE_KIND: (_WHOLE,), _PLANAR: (1,)}
    with TiffImageFile(io.BytesIO(_patched(layout, own | changes))) as plane:
        plane.load()
        return np.asarray(plane)


def _patched(layout: Layout, changes: dict[int, tuple[int, ...]]) -> bytes:
    """The file with the page's directory written anew at its end, with other values for some of its tags."""
    layout.stream.seek(0)
    encoded = bytearray(layout.stream.read())
    order, word = layout.order, "Q" if layout.big else "I"
    kind, width = (16, 8) if layout.big else (4, 4)
    kept = {tag: entry for tag, entry in layout.entries.items() if tag not in changes and tag not in _LEFT_OUT}
    rows = {}
    for tag, entry in kept.items():
        rows[tag] = bytes(encoded[entry.entry_at : entry.entry_at + (20 if layout.big else 12)])
    for tag, values in changes.items():
        packed = struct.pack(f"{order}{len(values)}{word}", *values)
        if len(values) > 1:
            place = len(encoded)
            encoded += packed
            packed = struct.pack(f"{order}{word}", place)
        rows[tag] = struct.pack(f"{order}HH{word}", tag, kind, len(values)) + packed.ljust(width, b"\0")
    start = len(encoded)
    encoded += struct.pack(f"{order}{'Q' if layout.big else 'H'}", len(rows))
    encoded += b"".join(rows[tag] for tag in sorted(rows))
    encoded += bytes(width)  # no further page
    struct.pack_into(f"{order}{word}", encoded, 8 if layout.big else 4, start)
    return bytes(encoded)


def _layout(stream: BinaryIO, label: str) -> Layout:
    """Of the first page that is not a thumbnail; a camera's raw file is refused."""
    stream.seek(0)
    head = stream.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = head[2:4] in (b"+\0", b"\0+")
    if head[8:10] == b"CR" or head[8:12] == b"IIII":  # Canon's and Phase One's mark
        raise raw_photo(label)
    (at,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", head, 8 if big else 4)
    pages: list[Layout] = []
    while at and len(pages) < _MOST_PAGES:
        if any(page.start == at for page in pages):  # they stand in a ring
            raise damaged(label)
        entries, following = _directory(stream, at, order, big, label)
        pages.append(Layout(order, big, stream, len(pages), entries, at))
        at = following
        if not _is_thumbnail(pages[-1]):
            break
    if not pages:
        raise damaged(label)
    if _DNG_VERSION in pages[0].entries or _is_thumbnail(pages[-1]) or _holds_sensor_data(pages[0], label):
        raise raw_photo(label)
    return pages[-1]


def _is_thumbnail(page: Layout) -> bool:
    return bool(page.value(_REDUCED) & 1)


def _holds_sensor_data(page: Layout, label: str) -> bool:
    """Whether the page, or one hung below it, is what a sensor measured before any colour was made of it."""
    below = [page]
    if _SUBS in page.entries and page.entries[_SUBS].count <= _MOST_PAGES:
        for at in page.values(_SUBS):
            entries, _ = _directory(page.stream, at, page.order, page.big, label)
            below.append(Layout(page.order, page.big, page.stream, 0, entries, at))
    return any(one.value(_COLOURS) in (_SENSOR, _LINEAR_SENSOR) for one in below)


def _directory(stream: BinaryIO, at: int, order: str, big: bool, label: str) -> tuple[dict[int, Entry], int]:
    """Tag → entry, and where the next directory stands; 0 when there is none."""
    word, row_bytes = ("Q", 20) if big else ("I", 12)
    stream.seek(at)
    counter = f"{order}{'Q' if big else 'H'}"
    head_bytes = struct.calcsize(counter)
    (count,) = struct.unpack(counter, stream.read(head_bytes))
    check_parts(count, _MOST_TAGS, label)
    rows = stream.read(count * row_bytes)
    entries: dict[int, Entry] = {}
    file_bytes, claimed = stream.seek(0, io.SEEK_END), 0
    for number in range(count):
        tag, kind, values = struct.unpack_from(f"{order}HH{word}", rows, number * row_bytes)
        inside = 12 if big else 8
        entry_at = at + head_bytes + number * row_bytes
        place = entry_at + inside
        size = _SIZES.get(kind, 1) * values
        if size > row_bytes - inside:
            (place,) = struct.unpack_from(f"{order}{word}", rows, number * row_bytes + inside)
            claimed += size if place + size <= file_bytes else 0  # what lies outside is not read
        entries.setdefault(tag, Entry(kind, values, place, entry_at))
    if claimed > file_bytes + _SHARED_BYTES:  # Pillow would copy the same bytes out for each tag
        raise damaged(label)
    stream.seek(at + head_bytes + count * row_bytes)
    following = stream.read(8 if big else 4)
    return entries, struct.unpack(f"{order}{word}", following)[0] if len(following) == (8 if big else 4) else 0


def _check(layout: Layout, label: str, limits: PhotoLimits) -> None:
    """Size, and the number of strips or tiles and of values, from their counts alone."""
    for tag in _ASKED:
        if tag in layout.entries:
            check_parts(layout.entries[tag].count, _MOST_VALUES, label)
    width, height = layout.size_wh
    check_size(width, height, label, limits)
    planes = layout.value(_SAMPLES, 1) if layout.value(_PLANAR, 1) == 2 else 1
    check_parts(planes, _MOST_VALUES, label)
    tiles = math.ceil(width / _LEAST_TILE_PX) * math.ceil(height / _LEAST_TILE_PX)
    for tag in _PER_PART:
        if tag in layout.entries:
            most = tiles if tag in (_TILES, _TILE_BYTES) else height
            check_parts(layout.entries[tag].count, most * planes, label)


def _description(layout: Layout) -> str:
    colours = _COLOUR_NAMES.get(layout.value(_COLOURS, 1), "unusual")
    kind = {_FLOATING: "floating-point", _SIGNED: "signed"}.get(layout.value(_SAMPLE_KIND, 1), "whole")
    bits = max(layout.values(_BITS, 1))
    return f"a TIFF with {colours} pixels of {bits}-bit {kind} numbers (compression {layout.value(_COMPRESSION, 1)})"
