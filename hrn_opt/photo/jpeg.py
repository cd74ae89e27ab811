"""Reading a JPEG: its markers are looked at first, for what Pillow does not tell: scans, a missing end, orientation."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, field

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from hrn_opt.photo.kinds import damaged
from hrn_opt.photo.limits import MOST_PARTS, MOST_SCANS, PhotoLimits, check_parts, check_size
from hrn_opt.photo.orientation import orientation_of, turned

_END, _SCAN, _APP1 = 0xD9, 0xDA, 0xE1
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # the other three are tables
_PROGRESSIVE = frozenset((0xC2, 0xC6, 0xCA, 0xCE))
_ALONE = frozenset(range(0xD0, 0xD9)) | {0x01}  # restarts and TEM, which have no length
_EXIF = b"Exif\0\0"
# Segments that make no pixels. Pillow would copy the Exif ones together again and again: an hour for 200 MB of them.
_NOTES = frozenset(range(0xE0, 0xF0)) - {0xE0, 0xE2, 0xEE} | {0xFE}  # but JFIF, the colour profile and Adobe's
# In a scan's data no other byte follows 0xff. Of a run of 0xff only the last one can match: nothing is tried twice.
_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])", re.DOTALL)
_MOST_JUNK_BYTES = 65_536  # between the markers before the first scan, where no encoder leaves any
_FILL = b"\xff" * 65_536  # libjpeg starts such a run anew with each 65,536 bytes that Pillow hands it
# libjpeg fills the blocks that are missing with zeros, which are this grey; a picture holds a whole row of it by
# chance only, and even then it counts only where the end mark is missing too.
_MISSING_GREY = 128
_BLOCK_ROW_PX = 16
# Of the height, but always a row of blocks, and beside it a part of the row of blocks where the file ends: 33 rows of a
# photo of 512. It is what a viewer shows nearly whole; a face does not reach there.
_MOST_MISSING = 0.02


@dataclass
class Structure:
    """What the markers say up to the end of the first picture.

    components: how many the frame has.
    scans: of each, (its components, first and last coefficient, lowest bit).
    """

    progressive: bool = False
    components: int = 0
    scans: list[tuple[int, int, int, int]] = field(default_factory=list)
    exif: bytes | None = None
    end: int | None = None
    tables: list[bytes] = field(default_factory=list)
    first_scan: int = 0


def read_jpeg(encoded: bytes, label: str, limits: PhotoLimits) -> Image.Image:
    """The first picture, loaded and upright. Not by Image.open: that one would go on to a camera's second picture."""
    structure = structure_of(encoded, label)
    if not structure.scans:
        raise damaged(label)
    end = b"" if structure.end else bytes((0xFF, _END))
    scans = encoded[structure.first_scan : structure.end]
    if _FILL in scans:
        raise damaged(label)
    picture = b"".join((encoded[:2], *structure.tables, scans, end))
    with JpegImageFile(io.BytesIO(picture)) as image:
        check_size(image.width, image.height, label, limits)
        image.load()
        if not structure.end and _lacks_pixels(image, structure):
            raise damaged(label)
        return turned(image, orientation_of(structure.exif))


def structure_of(encoded: bytes, label: str) -> Structure:
    """What the markers say; reads no more than MOST_SCANS scans, and each of their bytes once."""
    found = Structure()
    at, marks, junk = 2, 0, 0
    while mark := _MARKER.search(encoded, at):
        kind, start, after, marks = mark[1][0], mark.start(), mark.end(), marks + 1
        junk += 0 if found.scans else start - at
        check_parts(marks, MOST_PARTS, label)
        if kind == _END:
            found.end = after
            break
        at = after
        if kind in _ALONE:
            continue
        length = int.from_bytes(encoded[at : at + 2], "big")
        if length < 2 or at + length > len(encoded):
            break
        at += length
        _note(found, kind, start, encoded[start:at])
        check_parts(len(found.scans), MOST_SCANS, label)
    if junk > _MOST_JUNK_BYTES:
        raise damaged(label)
    return found


def _note(found: Structure, kind: int, start: int, segment: bytes) -> None:
    """segment: with its mark and its length, 4 bytes."""
    content = segment[4:]
    if kind in _FRAMES and len(content) > 5:
        found.progressive, found.components = kind in _PROGRESSIVE, content[5]
    elif kind == _SCAN and len(content) >= 4:
        first, last, bits = content[-3:]
        found.first_scan = found.first_scan or start
        found.scans.append((content[0], first, last, bits & 15))
    elif kind == _APP1 and content.startswith(_EXIF):
        found.exif = found.exif or content
    if not found.scans and kind not in _NOTES:
        found.tables.append(segment)


def _lacks_pixels(image: Image.Image, structure: Structure) -> bool:
    """Whether a picture without its end mark lacks more than a viewer's last rows.

    A progressive one is whole once the scan that brings the last bits has begun: what is missing of that one is a
    half grey level of the finest detail. Of one whose colours stand in scans of their own, nothing can be told.
    """
    if structure.progressive:
        final = [scan for scan in structure.scans if scan[2] == 63 and scan[3] == 0]
        return len(final) < structure.components
    if len(structure.scans) != 1 or structure.scans[0][0] != structure.components:
        return True
    height = image.height
    most = max(_BLOCK_ROW_PX, round(_MOST_MISSING * height))
    if height <= most:
        return False
    tail = np.asarray(image.crop((0, height - most - 1, image.width, height)))
    return bool((tail == _grey(image.mode)).all())


def _grey(mode: str) -> int:
    """What libjpeg's zeros look like in a mode: middle grey; of Adobe's CMYK, which Pillow inverts, 127."""
    return 255 - _MISSING_GREY if mode == "CMYK" else _MISSING_GREY
