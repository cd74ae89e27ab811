"""The way of a photo: from any source to upright 8-bit sRGB pixels. Sizes are checked before a pixel is decoded."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.WebPImagePlugin import WebPImageFile

from hrn_opt.errors import HrnOptError, PhotoArrayInvalid
from hrn_opt.photo import profile
from hrn_opt.photo.colour import to_rgb
from hrn_opt.photo.depth import highest_of_significant_bits, to_8_bit, to_16_bit
from hrn_opt.photo.gif import without_notes
from hrn_opt.photo.heif import read_heif
from hrn_opt.photo.jpeg import read_jpeg
from hrn_opt.photo.kinds import HEAD_BYTES, damaged, kind_of
from hrn_opt.photo.limits import DEFAULT_LIMITS, PhotoLimits, check_size
from hrn_opt.photo.orientation import orientation_of, turned
from hrn_opt.photo.png import profile_of, read_png
from hrn_opt.photo.sources import name_of, opened
from hrn_opt.photo.tiff import read_tiff
from hrn_opt.types import Photo

_ROWS_AT_ONCE = 128  # 28 ms for 12 megapixels against 35 ms for np.asarray, and no second whole copy
_LACKING_BYTES = 1  # at a file's end: what viewers do without
_BOXES_BYTES = 65_536  # in which a HEIC or AVIF file says what its colours are

PhotoSource = (
    Photo | str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image | NDArray[Any]
)  # what `open_photo` takes


def open_photo(source: PhotoSource, *, name: str | None = None, limits: PhotoLimits = DEFAULT_LIMITS) -> Photo:
    """The photo, upright, as 8-bit sRGB.

    source: a path, the bytes of a picture file, a binary file object, a PIL image, a Photo (returned as it is), or an
    array of shape (H, W), (H, W, 3) or (H, W, 4), uint8 or float in 0..1. A C-contiguous (H, W, 3) uint8 array is
    used without a copy: leave it unchanged while the photo is in use.
    name: what outputs are named after; by default the file's name, else "photo". Of an animation the first frame is
    taken. An embedded colour profile is converted to sRGB. Transparency is laid over white: the colours under it are
    arbitrary, and black would leave a dark rim round a cut-out portrait.
    """
    if isinstance(source, Photo):
        return replace(source, name=name) if name else source
    name = name or name_of(source)
    if isinstance(source, np.ndarray):
        return Photo(_rgb_from_array(source, limits), name)
    if isinstance(source, Image.Image):
        return Photo(_rgb_from_image(source, "The picture", limits), name)
    label = Path(source).name if isinstance(source, (str, os.PathLike)) else "The photo"
    with opened(source, label, limits) as stream:
        return Photo(_rgb_from_stream(stream, label, limits), name)


@dataclass(frozen=True)
class _Decoded:
    """A picture as its file stores it, loaded and turned upright.

    profile: ICC, of its colours.
    highest: what white is, where the file says it.
    """

    image: Image.Image
    profile: bytes | None = None
    highest: int | None = None


def _rgb_from_stream(stream: BinaryIO, label: str, limits: PhotoLimits) -> NDArray[np.uint8]:
    """Pillow's readers are named one by one: it knows forty kinds, some of which call outside programs, and its own
    choice would warn of large pictures where we refuse them."""
    kind = kind_of(stream.read(HEAD_BYTES), label)
    stream.seek(0)
    try:
        decoded = _READERS[kind](stream, label, limits)
        return _pixels(_to_srgb(decoded, label))
    except HrnOptError:
        raise
    except Exception as error:  # a boundary: on damaged bytes Pillow's decoders raise nearly any class
        raise damaged(label) from error


def _jpeg(stream: BinaryIO, label: str, limits: PhotoLimits) -> _Decoded:
    image = read_jpeg(stream.read(), label, limits)
    return _Decoded(image, image.info.get("icc_profile"))


def _png(stream: BinaryIO, label: str, limits: PhotoLimits) -> _Decoded:
    image, chunks = read_png(stream.read(), label, limits)
    grey = image.mode in ("1", "L", "LA", "I;16")
    colours = profile_of(chunks) or profile.of_png(chunks.notes, grey)
    bits = chunks.notes.get(b"sBIT", b"")[:1]
    highest = highest_of_significant_bits(np.asarray(image), bits[0]) if bits and image.mode == "I;16" else None
    return _Decoded(turned(image, orientation_of(chunks.notes.get(b"eXIf"))), colours, highest)


def _tiff(stream: BinaryIO, label: str, limits: PhotoLimits) -> _Decoded:
    image, highest = read_tiff(stream, label, limits)
    return _Decoded(image, image.info.get("icc_profile"), highest)


def _heif(stream: BinaryIO, label: str, limits: PhotoLimits) -> _Decoded:
    boxes = stream.read(_BOXES_BYTES)
    image = read_heif(stream, label, limits)
    return _Decoded(image, image.info.get("icc_profile") or profile.of_media_file(boxes))


def _avif(stream: BinaryIO, label: str, limits: PhotoLimits) -> _Decoded:
    boxes = stream.read(_BOXES_BYTES)
    stream.seek(0)
    decoded = _by(AvifImageFile)(stream, label, limits)
    return replace(decoded, profile=decoded.profile or profile.of_media_file(boxes))


def _lacking_by(reader: type) -> Callable[[BinaryIO, str, PhotoLimits], _Decoded]:
    """For the kinds of these whose readers would refuse a file for its last byte, and take no harm from more."""

    def read(stream: BinaryIO, label: str, limits: PhotoLimits) -> _Decoded:
        return _by(reader)(io.BytesIO(stream.read() + bytes(_LACKING_BYTES)), label, limits)

    return read


def _gif(stream: BinaryIO, label: str, limits: PhotoLimits) -> _Decoded:
    return _by(GifImageFile)(without_notes(stream, label), label, limits)


def _by(reader: type) -> Callable[[BinaryIO, str, PhotoLimits], _Decoded]:
    """For the kinds that Pillow's own reader does alone."""

    def read(stream: BinaryIO, label: str, limits: PhotoLimits) -> _Decoded:
        with reader(stream) as image:
            check_size(image.width, image.height, label, limits)
            image.load()
            return _Decoded(turned(image, orientation_of(image.info.get("exif"))), image.info.get("icc_profile"))

    return read


_READERS: dict[str, Callable[[BinaryIO, str, PhotoLimits], _Decoded]] = {
    "JPEG": _jpeg,
    "PNG": _png,
    "TIFF": _tiff,
    "HEIF": _heif,
    "AVIF": _avif,
    "WEBP": _lacking_by(WebPImageFile),
    "BMP": _lacking_by(BmpImageFile),
    "GIF": _gif,
}


def _rgb_from_image(image: Image.Image, label: str, limits: PhotoLimits) -> NDArray[np.uint8]:
    """(H, W, 3) uint8, upright; the image itself keeps its pixels and size."""
    check_size(image.width, image.height, label, limits)
    try:
        image.load()
    except Exception as error:  # the same boundary, for a PIL image that was opened elsewhere and not read yet
        raise damaged(label) from error
    exif = image.info.get("exif")
    told = isinstance(exif, bytes) and image.format not in ("TIFF", "HEIF")  # those come turned already
    upright = turned(image, orientation_of(exif)) if told else image
    return _pixels(_to_srgb(_Decoded(upright, image.info.get("icc_profile")), label))


def _to_srgb(decoded: _Decoded, label: str) -> Image.Image:
    image = decoded.image
    if image.mode.startswith("I;16") and decoded.profile:  # in 8 bits a linear profile would leave steps in the dark
        image = Image.fromarray(to_16_bit(np.asarray(image), decoded.highest))
        return to_rgb(image, decoded.profile, label)
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        image = Image.fromarray(to_8_bit(np.asarray(image), image.mode, label, decoded.highest))
    return to_rgb(image, decoded.profile, label)


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    """(H, W, 3) uint8, C-contiguous and writable, as torch.from_numpy asks for."""
    width, height = image.size
    rgb = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, _ROWS_AT_ONCE):
        bottom = min(top + _ROWS_AT_ONCE, height)
        rgb[top:bottom] = np.asarray(image.crop((0, top, width, bottom)))
    return rgb


def _rgb_from_array(values: NDArray[Any], limits: PhotoLimits) -> NDArray[np.uint8]:
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] not in (3, 4)):
        raise PhotoArrayInvalid(f"A photo array must be (H, W), (H, W, 3) or (H, W, 4), got {values.shape}.")
    check_size(values.shape[1], values.shape[0], "The array", limits)
    if np.issubdtype(values.dtype, np.floating):
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise PhotoArrayInvalid("A float photo array must be finite and in 0..1; divide by 255 or pass uint8.")
        values = (values * 255 + 0.5).astype(np.uint8)
    if values.dtype != np.uint8:
        raise PhotoArrayInvalid(f"A photo array must be uint8, or float in 0..1, got {values.dtype}; convert it first.")
    values = np.ascontiguousarray(values)
    if values.ndim == 3 and values.shape[2] == 3:
        return values
    return _pixels(to_rgb(Image.fromarray(values), None, "The array"))
