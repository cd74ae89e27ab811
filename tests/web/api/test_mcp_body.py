"""The photo in a message: lifted out, decoded however it is written, and nothing else of the message may be large."""

import asyncio
import base64
import json
import random

import pytest
from starlette.exceptions import HTTPException

from hrn_opt.errors import OptionInvalid
from hrn_opt.web.api.mcp_body import Body
from hrn_opt.web.door.bodies import JSON_BYTES

SIZES = (0, 1, 100, 5000, JSON_BYTES, 3 * JSON_BYTES + 1)


class Sent:
    """A request that brings the body in pieces."""

    def __init__(self, body):
        self._body = body

    async def stream(self):
        for start in range(0, len(self._body), 70_001):
            yield self._body[start : start + 70_001]


def photo_of(size):
    return random.Random(size).randbytes(size)


def decoded(message, path):
    """The photo that comes out; and the rest of the message."""
    with Body() as body:
        asyncio.run(body.receive(Sent(message)))
        content = body.content()
        body.save_photo(content.pop("photo"), path)
    return path.read_bytes(), content


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "written",
    [
        lambda text: json.dumps(text),
        lambda text: json.dumps(text.rstrip("=")),
        lambda text: json.dumps(text.translate(str.maketrans("+/", "-_"))),
        lambda text: json.dumps(text).replace("/", "\\/"),
        lambda text: json.dumps("\r\n".join(text[start : start + 76] for start in range(0, len(text), 76))),
        lambda text: json.dumps(f"data:image/jpeg;base64,{text}").replace("/", "\\/"),
    ],
)
def test_every_spelling_of_base64_is_the_photo(tmp_path, size, written):
    text = written(base64.b64encode(photo_of(size)).decode())
    message = f'{{"a": "x\\"y", "photo": {text}, "face": "2"}}'.encode()
    assert decoded(message, tmp_path / "photo") == (photo_of(size), {"a": 'x"y', "face": "2"})


@pytest.mark.parametrize(
    "photo",
    ["https://example.org/me.jpg", "/etc/passwd.", "A", "AB=C", "é", "\ud800", "AAAA\\", "A" * 4097, "A" * 5000 + "é"],
)
def test_what_is_no_base64_is_told(tmp_path, photo):
    with pytest.raises(OptionInvalid, match=r"not base64.* fetches nothing"):
        decoded(json.dumps({"photo": photo}).encode(), tmp_path / "photo")


@pytest.mark.parametrize("one", [b"[],", b'"AAAA",', b"1,"])
def test_large_messages_of_small_things_are_not_parsed(one):
    with Body() as body:
        asyncio.run(body.receive(Sent(b'["' + b"A" * JSON_BYTES + b'",' + one * JSON_BYTES + b"1]")))
        with pytest.raises(HTTPException) as caught:
            body.content()
    assert caught.value.status_code == 413


@pytest.mark.parametrize("message", [b"", b"{", b"[" * 100_000, b"\xff", b'{"photo": "' + b"A" * 2_000_000])
def test_what_is_no_json_is_a_value_error_or_too_large(message):
    with Body() as body:
        asyncio.run(body.receive(Sent(message)))
        with pytest.raises((ValueError, HTTPException)):
            body.content()
