"""What may be opened, and the errors for what is more; all of it is looked at before any pixel is decoded."""

from __future__ import annotations

from dataclasses import dataclass

from hrn_opt.errors import PhotoTooLarge, PhotoTooSmall

# Encoders write at most 20 scans; each costs a pass over every coefficient, so that a small file can ask for hours.
MOST_SCANS = 100
MOST_PARTS = 200_000  # segments or chunks: 8 kB each in the largest files; walking over these takes 0.2 s


@dataclass(frozen=True)
class PhotoLimits:
    """What may be opened.

    max_bytes: of the encoded file.
    max_pixels: width · height; the default keeps decoding under 1 GB and lies below the 89 megapixels from which Pillow
    itself warns.
    min_side_px: of the shorter side.
    """

    max_bytes: int = 200_000_000
    max_pixels: int = 80_000_000
    min_side_px: int = 64

    def __post_init__(self) -> None:
        if min(self.max_bytes, self.max_pixels, self.min_side_px) < 1:
            raise ValueError(f"every limit must be at least 1, got {self}")


DEFAULT_LIMITS = PhotoLimits()


def check_bytes(size: int, label: str, limits: PhotoLimits) -> None:
    if size > limits.max_bytes:
        raise PhotoTooLarge(
            f"{label} is larger than {limits.max_bytes / 1e6:.4g} MB; save it smaller or as a JPEG.",
            photo=label,
            reason="bytes",
            most=limits.max_bytes / 1e6,
        )


def check_size(width: int, height: int, label: str, limits: PhotoLimits) -> None:
    if min(width, height) < limits.min_side_px:
        raise PhotoTooSmall(
            f"{label} is only {width} × {height} pixels; use a photo of at least {limits.min_side_px} pixels a side.",
            photo=label,
            width_px=width,
            height_px=height,
            least_px=limits.min_side_px,
        )
    if width * height > limits.max_pixels:
        raise PhotoTooLarge(
            f"{label} has more than {limits.max_pixels / 1e6:.4g} megapixels; scale it down first.",
            photo=label,
            reason="pixels",
            most=limits.max_pixels / 1e6,
        )


def check_parts(count: int, most: int, label: str) -> None:
    """count: of a JPEG's scans, or of a TIFF's strips, tiles or values, none of which an encoder writes more of."""
    if count > most:
        raise PhotoTooLarge(
            f"{label} is built of more than {most} parts; open it in a picture program and save it anew as a JPEG.",
            photo=label,
            reason="parts",
            most=most,
        )
