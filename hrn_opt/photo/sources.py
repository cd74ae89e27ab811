"""Where a photo's bytes come from: a path, bytes or a file object; one seekable stream of a known size comes out."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from hrn_opt.errors import PhotoEmpty, PhotoMissing, PhotoUnreadable
from hrn_opt.photo.limits import PhotoLimits, check_bytes


def name_of(source: object) -> str:
    """What outputs are named after."""
    path = source
    if not isinstance(source, (str, os.PathLike)):  # file objects have a name (some a number), PIL images a filename
        path = getattr(source, "name", getattr(source, "filename", ""))
    return (Path(path).stem if isinstance(path, (str, os.PathLike)) else "") or "photo"


@contextmanager
def opened(source: object, label: str, limits: PhotoLimits) -> Iterator[BinaryIO]:
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
        check_bytes(size, label, limits)
        yield stream


def _open_path(path: str | os.PathLike[str], label: str) -> BinaryIO:
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
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
        if getattr(error, "errno", None) == errno.ELOOP:
            raise PhotoMissing(
                f"{label} is a link that leads back to itself; give the path of the photo it was made for.",
                photo=label,
                reason="special",
            ) from None
        raise PhotoMissing(
            f"There is no file {os.fspath(path)!r}; check the path.", photo=label, reason="none"
        ) from None


def _read_all(source: object, limits: PhotoLimits) -> bytes:
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source)
    if not hasattr(source, "read"):
        raise _no_bytes(
            f"A photo cannot be made from {type(source).__name__}; "
            "give a path, bytes, a binary file object, a PIL image or an array."
        )
    try:
        encoded = source.read(limits.max_bytes + 1)  # one over is enough to tell that it is too large
    except Exception as error:  # a boundary: the reader is the caller's, and may raise whatever it likes
        raise _no_bytes("The file object could not be read; open it in binary mode and keep it open.") from error
    if not isinstance(encoded, bytes):
        raise _no_bytes("The file object does not give bytes; open it in binary mode.")
    return encoded


def _no_bytes(message: str) -> PhotoUnreadable:
    return PhotoUnreadable(message, photo="The photo", reason="source")
