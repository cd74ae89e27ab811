"""Reading HEIC and HEIF, the photos of phones, with pillow-heif; nothing is registered with Pillow for others."""

from __future__ import annotations

from typing import BinaryIO

from PIL import Image

from hrn_opt.errors import PhotoFormatUnsupported
from hrn_opt.photo.limits import PhotoLimits, check_size


def read_heif(stream: BinaryIO, label: str, limits: PhotoLimits) -> Image.Image:
    """The primary picture, loaded. libheif itself turns, mirrors and crops it as its container says; what EXIF and
    XMP say of turning is a copy of that, and counts no more."""
    try:
        from pillow_heif import HeifImageFile  # here, as it takes 40 ms to import and most photos are not HEIC
    except ImportError:
        raise PhotoFormatUnsupported(
            f"{label} is a HEIC picture, which needs the package pillow-heif; install it, or save a JPEG.",
            photo=label,
            reason="kind",
            format="HEIC",
        ) from None

    image: Image.Image
    with HeifImageFile(stream) as image:
        check_size(image.width, image.height, label, limits)
        image.load()
        return image
