"""Made-up pictures, and files of them, that several tests open."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 70, 96  # unequal, so that a swapped axis fails


def gradient_rgb(height=HEIGHT, width=WIDTH):
    """Smooth, different in each channel and along each axis: survives JPEG, shows every turn and swap."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 / (width - 1), y * 255 / (height - 1), np.full_like(x, 60)], -1).round().astype(np.uint8)


def encoded(image, file_format="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


def png(width, height, colour_type=2, rows=b""):
    """A PNG whose header claims any size, without the pixels in memory."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def png_bomb(side):
    """A whole PNG of side² black pixels, built without deflating them: one flushed block of zeros, repeated."""
    per_row = 1 + 3 * side
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = deflate.compress(bytes(per_row * 100)) + deflate.flush(zlib.Z_FULL_FLUSH)
    adler_of_zeros = (per_row * side % 65521) << 16 | 1
    rows = b"\x78\xda" + block * (side // 100) + b"\x03\x00" + struct.pack(">I", adler_of_zeros)
    return png(side, side, rows=rows)


PHOTO = gradient_rgb()


IMAGE = Image.fromarray(PHOTO)
