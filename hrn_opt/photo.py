"""Opening photos: every kind of source in, one upright RGB array out, a named error for everything else.

Only Pillow decodes here. Size in bytes and in pixels is checked from the header, before any pixel is decoded.
"""

from __future__ import annotations

import io
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from hrn_opt.errors import (
    HrnOptError,
    PhotoArrayInvalid,
    PhotoEmpty,
    PhotoFormatUnsupported,
    PhotoMissing,
    PhotoTooLarge,
    PhotoTooSmall,
    PhotoUnreadable,
)
from hrn_opt.types import Photo

# Pillow knows some forty formats, several of which call outside programs or were never fuzzed: only these are tried.
# JPEG includes the two-picture MPO of some cameras.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "AVIF")
_ACCEPTED = "JPEG, PNG, WebP, BMP, TIFF or GIF"
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"II*\x00", b"MM\x00*")
_HEAD_BYTES = 32  # enough for every magic number above and for the brand of an ISO media file
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")
_ROWS_AT_ONCE = 128  # 28 ms for 12 megapixels against 35 ms for np.asarray, and no second whole copy

# EXIF 2.3, tag 0x0112: how the stored rows and columns are to be turned. Pillow's exif_transpose also writes the
# EXIF block anew, which fails on the odd tags of some cameras; nothing here needs that block afterwards.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class PhotoLimits:
    """What may be opened.

    max_bytes: of the encoded file.   max_pixels: width · height; the default keeps decoding under 1 GB and lies
    below the 89 megapixels from which Pillow itself warns.   min_side_px: of the shorter side.
    """

    max_bytes: int = 200_000_000
    max_pixels: int = 80_000_000
    min_side_px: int = 64

    def __post_init__(self):
        if min(self.max_bytes, self.max_pixels, self.min_side_px) < 1:
            raise ValueError(f"every limit must be at least 1, got {self}")


DEFAULT_LIMITS = PhotoLimits()


def open_photo(source, *, name: str | None = None, limits: PhotoLimits = DEFAULT_LIMITS) -> Photo:
    """The photo, upright, as 8-bit sRGB.

    source: a path, the bytes of a picture file, a binary file object, a PIL image, a Photo (returned as it is), or an
    array of shape (H, W), (H, W, 3) or (H, W, 4), uint8 or float in 0..1. A C-contiguous (H, W, 3) uint8 array is
    used without a copy: leave it unchanged while the photo is in use.
    name: what outputs are named after; by default the file's name, else "photo".
    Of an animation the first frame is taken. An embedded colour profile is converted to sRGB. Transparency is laid
    over white: the colours under it are arbitrary, and black would leave a dark rim round a cut-out portrait.
    """
    if isinstance(source, Photo):
        return replace(source, name=name) if name else source
    name = name or _name_of(source)
    if isinstance(source, np.ndarray):
        return Photo(_rgb_from_array(source, limits), name)
    if isinstance(source, Image.Image):
        return Photo(_rgb_from_image(source, "The picture", limits), name)
    label = Path(source).name if isinstance(source, (str, os.PathLike)) else "The photo"
    with _opened(source, label, limits) as stream:
        return Photo(_rgb_from_stream(stream, label, limits), name)


def _name_of(source) -> str:
    path = source
    if not isinstance(source, (str, os.PathLike)):  # file objects have a name (some a number), PIL images a filename
        path = getattr(source, "name", getattr(source, "filename", ""))
    return (Path(path).stem if isinstance(path, (str, os.PathLike)) else "") or "photo"


@contextmanager
def _opened(source, label: str, limits: PhotoLimits) -> Iterator[BinaryIO]:
    """A seekable stream over the encoded photo, known to be neither empty nor too large."""
    if isinstance(source, (str, os.PathLike)):
        stream = _open_path(source, label)
        size = os.fstat(stream.fileno()).st_size
    else:
        encoded = _read_all(source, limits)
        stream, size = io.BytesIO(encoded), len(encoded)
    with stream:
        if size == 0:
            raise PhotoEmpty(f"{label} is empty; save or download it again.", photo=label)
        if size > limits.max_bytes:
            raise PhotoTooLarge(
                f"{label} is larger than {limits.max_bytes / 1e6:.4g} MB; save it smaller or as a JPEG.",
                photo=label,
                reason="bytes",
                most=limits.max_bytes / 1e6,
            )
        yield stream


def _open_path(path, label: str) -> BinaryIO:
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            named = label or str(path)
            raise PhotoMissing(f"{named} is a folder; give the path of one photo in it.", photo=named, reason="folder")
        if not stat.S_ISREG(mode):
            raise PhotoMissing(
                f"{label} is not a regular file; give the path of a photo.", photo=label, reason="special"
            )
        return open(path, "rb")
    except PermissionError:
        raise PhotoUnreadable(
            f"{label} may not be read; check its permissions.", photo=label, reason="permission"
        ) from None
    except (OSError, ValueError):  # ValueError: a NUL character in the path
        raise PhotoMissing(
            f"There is no file {os.fspath(path)!r}; check the path.", photo=label, reason="none"
        ) from None


def _read_all(source, limits: PhotoLimits) -> bytes:
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source)
    if not hasattr(source, "read"):
        raise _no_bytes(
            f"A photo cannot be made from {type(source).__name__}; "
            "give a path, bytes, a binary file object, a PIL image or an array."
        )
    try:
        encoded = source.read(limits.max_bytes + 1)  # one over is enough to tell that it is too large
    except (OSError, ValueError):  # ValueError: closed, or text that is not UTF-8
        raise _no_bytes("The file object could not be read; open it in binary mode and keep it open.") from None
    if not isinstance(encoded, bytes):
        raise _no_bytes("The file object does not give bytes; open it in binary mode.")
    return encoded


def _rgb_from_stream(stream: BinaryIO, label: str, limits: PhotoLimits) -> np.ndarray:
    head = stream.read(_HEAD_BYTES)
    stream.seek(0)
    try:
        with Image.open(stream, formats=FORMATS) as image:
            return _rgb_from_image(image, label, limits)
    except HrnOptError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large(label, limits) from None
    except UnidentifiedImageError:
        raise _unidentified(head, label) from None
    except Exception as error:  # a boundary: on damaged bytes Pillow's decoders raise nearly any class
        raise _damaged(label) from error


def _rgb_from_image(image: Image.Image, label: str, limits: PhotoLimits) -> np.ndarray:
    """(H, W, 3) uint8, upright; the image itself keeps its pixels and size."""
    _check_size(image.width, image.height, label, limits)
    try:
        image.load()
    except Exception as error:  # the same boundary, for a PIL image that was opened elsewhere and not read yet
        raise _damaged(label) from error
    turn = _TURNS.get(_orientation(image))
    image = _to_rgb(image, label)
    return _pixels(image if turn is None else image.transpose(turn))


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1..8; read after load(), as Pillow turns TIFF files itself and then drops the tag."""
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, struct.error):
        return 1  # a damaged EXIF block says nothing about the pixels, which are whole


def _to_rgb(image: Image.Image, label: str) -> Image.Image:
    """The image in mode RGB and in sRGB, opaque."""
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        image = Image.fromarray(_to_8_bit(np.asarray(image), image.mode, label))
    if image.has_transparency_data:
        image = _over_white(_converted(image, "RGBA", label))
    elif image.mode in ("1", "P"):
        image = image.convert("RGB")
    if profile:
        image = _to_srgb(image, profile)
    return _converted(image, "RGB", label)


def _converted(image: Image.Image, mode: str, label: str) -> Image.Image:
    try:
        return image if image.mode == mode else image.convert(mode)
    except ValueError:
        raise PhotoFormatUnsupported(
            f"{label} has the colour mode {image.mode}, which cannot be read here; save it as an RGB JPEG or PNG.",
            photo=label,
            reason="mode",
            format=image.mode,
        ) from None


def _to_8_bit(values: np.ndarray, mode: str, label: str) -> np.ndarray:
    """(H, W) uint8 from 16-bit, 32-bit or float grey, scaled over its full range instead of clipped."""
    if mode == "F":
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise PhotoUnreadable(
                f"{label} holds floating-point values outside 0..1; save it with 8 bits a channel.",
                photo=label,
                reason="range",
            )
        return (values * 255 + 0.5).astype(np.uint8)
    full_scale = 65535
    if mode == "I":  # 32-bit containers mostly hold fewer bits: take the least of the usual depths that fits
        largest = int(values.max())
        full_scale = next(depth for depth in (255, 65535, 2**31 - 1) if largest <= depth)
    return (np.maximum(values, 0) * (255 / full_scale) + 0.5).astype(np.uint8)


def _over_white(rgba: Image.Image) -> Image.Image:
    page = Image.new("RGB", rgba.size, "white")
    page.paste(rgba, mask=rgba.getchannel("A"))
    return page


def _to_srgb(image: Image.Image, profile_bytes: bytes) -> Image.Image:
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(profile_bytes))
        if "srgb" in ImageCms.getProfileDescription(profile).lower():
            return image
        return ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return image  # damaged, or for another colour mode: viewers then take the pixels as sRGB, and so do we


def _pixels(image: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8, C-contiguous and writable, as torch.from_numpy asks for."""
    width, height = image.size
    rgb = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, _ROWS_AT_ONCE):
        bottom = min(top + _ROWS_AT_ONCE, height)
        rgb[top:bottom] = np.asarray(image.crop((0, top, width, bottom)))
    return rgb


def _rgb_from_array(values: np.ndarray, limits: PhotoLimits) -> np.ndarray:
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] not in (3, 4)):
        raise PhotoArrayInvalid(f"A photo array must be (H, W), (H, W, 3) or (H, W, 4), got {values.shape}.")
    _check_size(values.shape[1], values.shape[0], "The array", limits)
    if np.issubdtype(values.dtype, np.floating):
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise PhotoArrayInvalid("A float photo array must be finite and in 0..1; divide by 255 or pass uint8.")
        values = (values * 255 + 0.5).astype(np.uint8)
    if values.dtype != np.uint8:
        raise PhotoArrayInvalid(f"A photo array must be uint8, or float in 0..1, got {values.dtype}; convert it first.")
    values = np.ascontiguousarray(values)
    if values.ndim == 3 and values.shape[2] == 3:
        return values
    return _pixels(_to_rgb(Image.fromarray(values), "The array"))


def _check_size(width: int, height: int, label: str, limits: PhotoLimits) -> None:
    if min(width, height) < limits.min_side_px:
        raise PhotoTooSmall(
            f"{label} is only {width} × {height} pixels; use a photo of at least {limits.min_side_px} pixels a side.",
            photo=label,
            width_px=width,
            height_px=height,
            least_px=limits.min_side_px,
        )
    if width * height > limits.max_pixels:
        raise _too_large(label, limits)


def _too_large(label: str, limits: PhotoLimits) -> PhotoTooLarge:
    return PhotoTooLarge(
        f"{label} has more than {limits.max_pixels / 1e6:.4g} megapixels; scale it down first.",
        photo=label,
        reason="pixels",
        most=limits.max_pixels / 1e6,
    )


def _damaged(label: str) -> PhotoUnreadable:
    return PhotoUnreadable(
        f"{label} is damaged or cut short; save or download it again.", photo=label, reason="damaged"
    )


def _no_bytes(message: str) -> PhotoUnreadable:
    return PhotoUnreadable(message, photo="The photo", reason="source")


def _unidentified(head: bytes, label: str) -> HrnOptError:
    """The error for bytes that no allowed decoder takes, named after what they begin with."""
    if head[4:8] == b"ftyp":
        kind = {**dict.fromkeys(_HEIC_BRANDS, "HEIC"), **dict.fromkeys(_AVIF_BRANDS, "AVIF")}.get(head[8:12])
        if kind:
            return PhotoFormatUnsupported(
                f"{label} is a {kind} picture, which cannot be read here; convert it to JPEG or PNG.",
                photo=label,
                reason="kind",
                format=kind,
            )
        return PhotoUnreadable(f"{label} is a video; use a still photo, as {_ACCEPTED}.", photo=label, reason="video")
    if head.startswith(_MAGIC):
        return _damaged(label)
    return PhotoUnreadable(
        f"{label} is not a picture in a known format; use {_ACCEPTED}.", photo=label, reason="no picture"
    )
