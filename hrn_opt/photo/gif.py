"""Reading a GIF: what stands before its first picture is left out, as Pillow goes over it in ways that take minutes."""

from __future__ import annotations

import io
from typing import BinaryIO

from hrn_opt.photo.kinds import damaged
from hrn_opt.photo.limits import MOST_PARTS, check_parts

_SCREEN_BYTES, _FLAGS_AT = 13, 10
_EXTENSION, _PICTURE, _END = b"!", b",", b";"
_CONTROL = b"\xf9"  # the extension that says which colour is transparent


def without_notes(stream: BinaryIO, label: str) -> BinaryIO:
    """The file without the comments and other notes before its first picture, walked over once.

    Pillow adds a comment's blocks of 255 bytes to each other one by one: 4 s for 10 MB, and for twice as much four
    times as long.
    """
    encoded = stream.read()
    flags = encoded[_FLAGS_AT] if len(encoded) > _FLAGS_AT else 0
    at = _SCREEN_BYTES + (3 << (flags & 7) + 1 if flags & 128 else 0)
    kept, count = [encoded[:at]], 0
    while encoded[at : at + 1] not in (_PICTURE, _END, b""):
        start, is_note = at, encoded[at : at + 1] == _EXTENSION  # else a stray byte, which viewers pass over
        at, count = at + 1, count + 1
        if is_note:
            at += 1
            while at < len(encoded) and encoded[at]:
                at, count = at + 1 + encoded[at], count + 1
                check_parts(count, MOST_PARTS, label)
            at += 1
        check_parts(count, MOST_PARTS, label)
        if is_note and encoded[start + 1 : start + 2] == _CONTROL:
            kept.append(encoded[start:at])
    if encoded[at : at + 1] != _PICTURE:
        raise damaged(label)
    return io.BytesIO(b"".join((*kept, memoryview(encoded)[at:])))
