"""How the stored rows and columns are to be turned: as EXIF says, the way browsers read it.

An orientation that stands in XMP only is an editing program's note, which no viewer obeys. Nor do browsers obey an
entry of another type, or one that holds two values.
"""

from __future__ import annotations

import struct

from PIL import Image

_ORIENTATION_TAG, _SHORT = 0x0112, 3  # EXIF 2.3
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def turned(image: Image.Image, orientation: int) -> Image.Image:
    """The image upright."""
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def orientation_of(exif: bytes | None) -> int:
    """1..8; 1 where the block does not say it in a way that can be understood.

    Read here and not by Pillow, which obeys XMP, and warns of odd blocks on the standard error of the whole process.
    """
    block = (exif or b"").removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", block, 4)
        (count,) = struct.unpack_from(f"{order}H", block, start)
        for at in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, values, value = struct.unpack_from(f"{order}HHIH", block, at)
            if tag == _ORIENTATION_TAG:
                return value if kind == _SHORT and values == 1 else 1
    except struct.error:  # cut: it says nothing about the pixels, which are whole
        return 1
    return 1
