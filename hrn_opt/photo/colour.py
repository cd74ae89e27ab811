"""From the colours that a file stores to opaque sRGB; littlecms decides what a profile means, never its name."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from hrn_opt.errors import PhotoFormatUnsupported

_SPACES = {"RGB": "RGB ", "L": "GRAY", "I;16": "GRAY", "CMYK": "CMYK", "LAB": "Lab "}  # mode → as ICC names it
_LATTICE_STEPS = 18  # 15 levels apart
_SAME = 1  # grey level: tables of sRGB as makers write them differ by as much


def to_rgb(image: Image.Image, profile: bytes | None, label: str) -> Image.Image:
    """The image in mode RGB and in sRGB. Transparency is laid over white, after the colours are converted."""
    if image.has_transparency_data:
        grey = image.mode in ("L", "LA", "La")
        image = _converted(image, "LA" if grey else "RGBA", label)
        colours = _in_srgb(image.convert("L" if grey else "RGB"), profile, label)
        page = Image.new("RGB", image.size, "white")
        page.paste(colours, mask=image.getchannel("A"))
        return page
    if image.mode in ("P", "RGBX"):
        image = image.convert("RGB")
    elif image.mode == "1":
        image = image.convert("L")
    return _in_srgb(image, profile, label)


def _in_srgb(image: Image.Image, profile: bytes | None, label: str) -> Image.Image:
    if profile is None and image.mode == "LAB":  # has a meaning of its own
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    if profile and image.mode in _SPACES:
        image = _obeying(image, profile)
    return _converted(image, "RGB", label)


def _obeying(image: Image.Image, profile_bytes: bytes) -> Image.Image:
    """The image in sRGB; as it is, if the profile is damaged, for another colour mode, or sRGB's own."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(profile_bytes))
        if profile.profile.xcolor_space != _SPACES[image.mode]:
            return image
        if image.mode == "I;16":
            return Image.fromarray(_table_of_16_bits(profile)[np.asarray(image)])
        change = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), image.mode, "RGB")
        return image if _changes_nothing(change, image.mode) else _changed(image, change)
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return image  # viewers then take the pixels as sRGB, and so do we


def _table_of_16_bits(profile: ImageCms.ImageCmsProfile) -> NDArray[np.uint8]:
    """(65536, 3) uint8: sRGB of each grey value. littlecms' own quick table is 10 levels off in the dark."""
    ramp = Image.fromarray(np.arange(65536, dtype=np.uint16).reshape(256, 256))
    srgb, exactly = ImageCms.createProfile("sRGB"), ImageCms.Flags.NOOPTIMIZE
    change = ImageCms.buildTransform(profile, srgb, "I;16", "RGB", flags=exactly)
    return np.asarray(_changed(ramp, change)).reshape(-1, 3)


def _changed(image: Image.Image, change: ImageCms.ImageCmsTransform) -> Image.Image:
    changed = ImageCms.applyTransform(image, change)
    assert changed is not None  # as it only is for a change in place
    return changed


def _changes_nothing(change: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Told on all greys and a lattice of colours: 1 ms, against 220 ms for converting 12 megapixels to themselves."""
    if mode not in ("RGB", "L"):
        return False
    greys = np.arange(256, dtype=np.uint8)
    if mode == "L":
        probe = greys[None]
        expected = probe[..., None]
    else:
        steps = np.linspace(0, 255, _LATTICE_STEPS).round().astype(np.uint8)
        lattice = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 3)
        probe = np.concatenate((greys[:, None].repeat(3, 1), lattice))[None]
        expected = probe
    changed = np.asarray(_changed(Image.fromarray(probe), change)).astype(int)
    return bool(np.abs(changed - expected).max() <= _SAME)


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
