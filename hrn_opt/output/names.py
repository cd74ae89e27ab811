"""Names of files, made of whatever a photo is called; needs no torch."""

from __future__ import annotations

import re
import unicodedata

_STEM_BYTES = 150  # most file systems allow 255 bytes a name; the rest is for endings and numbers
_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f\s/\\:*?"<>|]+')  # also white space: many OBJ readers split names at it


def safe_stem(name: str) -> str:
    """The name as a file stem: no separators, control characters, white space or outer dots, and never empty."""
    readable = unicodedata.normalize("NFC", name).encode("utf-8", "ignore").decode()  # drops lone surrogates
    short = _UNSAFE.sub("_", readable).strip("._").encode()[:_STEM_BYTES]
    return short.decode("utf-8", "ignore").strip("._") or "face"
