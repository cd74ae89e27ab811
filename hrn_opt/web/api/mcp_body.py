"""Bodies of MCP messages: JSON in which one text, the photo, may be as large as an upload.

Such a body waits on the disk, not in memory, and its photo is lifted out before the rest is parsed: 85 MB of JSON
could become gigabytes of Python objects, 1 MB cannot.
"""

from __future__ import annotations

import base64
import binascii
import json
import mmap
import re
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any

from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException

from hrn_opt.errors import OptionInvalid
from hrn_opt.web.door.bodies import JSON_BYTES
from hrn_opt.web.door.requests import TOO_LARGE

# A long JSON string of base64 and of what stands in it escaped. Without a comma or a colon, so it is never two strings.
_LONG_TEXT = re.compile(rb'"(?:data:[\w/\\+.-]{1,100};base64,)?([A-Za-z0-9+/=_\\-]{4096,})(?<!\\)"')
_CHUNK_BYTES = 1 << 20
_ALPHABET = bytes.maketrans(b"-_", b"+/")  # of addresses, to the usual one
_NOT_BASE64 = "photo is not base64. Send the picture file itself as base64; this server fetches nothing."

_View = bytes | mmap.mmap


class Body:
    """One body. To be closed by `with`.

    content: its JSON, in which a mark stands for the photo; ValueError where it is none.
    """

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(max_size=JSON_BYTES)  # noqa: SIM115 - closed by __exit__
        self._photo = range(0)  # where it lies
        self._mark = secrets.token_hex()

    def __enter__(self) -> Body:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    async def receive(self, request: Request) -> None:
        """The guard counts, and cuts what is too long as it does forms."""
        try:
            async for chunk in request.stream():
                self._file.write(chunk)
        except MultiPartException as error:
            raise HTTPException(400, error.message) from error

    def content(self) -> Any:
        """Raises ValueError where it is no JSON."""
        view = self._view()
        found = _LONG_TEXT.search(view)
        if found:
            self._photo = range(*found.span(1))
        if len(view) - len(self._photo) > JSON_BYTES:
            raise HTTPException(TOO_LARGE.status, TOO_LARGE.detail)
        mark = self._mark.encode() if found else b""
        text = view[: self._photo.start] + mark + view[self._photo.stop :]
        try:
            return json.loads(text)
        except RecursionError as error:
            raise ValueError from error

    def save_photo(self, photo: str, path: Path) -> None:
        """Decodes the photo of the content into the file; raises OptionInvalid where it is no base64."""
        text = photo.rpartition(";base64,")[2]
        chunks = self._lifted() if text == self._mark else [text.encode(errors="replace")]
        try:
            with path.open("wb") as file:
                for piece in _decoded(chunks):
                    file.write(piece)
        except binascii.Error as error:
            raise OptionInvalid(_NOT_BASE64) from error

    def _view(self) -> _View:
        """All of it; by its file where it is large."""
        self._file.flush()
        if self._file.seek(0, 2) > JSON_BYTES:
            return mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        self._file.seek(0)
        return self._file.read()

    def _lifted(self) -> Iterator[bytes]:
        view = self._view()
        for start in range(self._photo.start, self._photo.stop, _CHUNK_BYTES):
            yield view[start : min(start + _CHUNK_BYTES, self._photo.stop)]


def _decoded(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Line breaks and JSON's escapes of them may stand in it, and the padding may lack."""
    left = escape = b""
    for chunk in chunks:
        chunk = escape + chunk
        escape = chunk[-1:] if chunk.endswith(b"\\") else b""
        chunk = chunk.removesuffix(escape).replace(b"\\/", b"/").replace(b"\\n", b"").replace(b"\\r", b"")
        left += chunk.translate(_ALPHABET, b"\r\n ")
        whole = len(left) // 4 * 4
        yield base64.b64decode(left[:whole], validate=True)
        left = left[whole:]
    yield base64.b64decode(left + escape + b"=" * (-len(left) % 4), validate=True)
