"""Bodies counted as they are read: those of parameters read whole and looked into, those of uploads passed on."""

from __future__ import annotations

import json
import logging
import re
import traceback
from typing import Any

from starlette.formparsers import MultiPartException

from hrn_opt.errors import DiskFull
from hrn_opt.web.asgi import App, Message, Receive, Scope, Send, local_path, replayed
from hrn_opt.web.door.requests import (
    FETCHES_NOTHING,
    NO_FILE,
    TOO_LARGE,
    Headers,
    Refusal,
    refuse,
)
from hrn_opt.web.door.uploads import Upload, Uploads
from hrn_opt.web.folders import NO_ROOM, disk_full

JSON_BYTES = 1_000_000  # of a request's parameters; photos come as forms, or to the MCP tool
_UPLOAD = "/gradio_api/upload"
_PASSED_OVER = 4  # times what is allowed; whoever sends more may find the line cut
# Of a form: others than UTF-8 give names that no file can have, or fail in the midst of reading.
_OTHER_CHARSET = re.compile(rb"charset(?!=\"?utf-?8\"?\s*(;|$))", re.IGNORECASE)
_ADDRESS = re.compile(r"\s*([a-z][a-z0-9+.-]*:)?[/\\]{2}", re.IGNORECASE)

log = logging.getLogger(__name__)


def is_form(headers: Headers) -> bool:
    return headers.get(b"content-type", b"").lower().startswith(b"multipart/form-data")


def has_other_charset(headers: Headers) -> bool:
    return is_form(headers) and _OTHER_CHARSET.search(headers[b"content-type"]) is not None


async def pass_parameters(app: App, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
    """Whatever its type says: the page reads JSON from bodies of any."""
    route = local_path(scope)
    if int(headers.get(b"content-length", b"0")) > JSON_BYTES:
        await _refuse_unread(TOO_LARGE, route, headers, receive, send, JSON_BYTES)
        return
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message.get("body", b"")
        if len(body) > JSON_BYTES:
            body.clear()
            rest_bytes = JSON_BYTES if message.get("more_body", False) else 0
            await _refuse_unread(TOO_LARGE, route, {}, receive, send, rest_bytes)
            return
        if not message.get("more_body", False):
            break
    if _names_an_address(bytes(body)):
        await refuse(FETCHES_NOTHING, route, send)
        return
    await app(scope, replayed(bytes(body), receive), send)


async def pass_upload(
    app: App, scope: Scope, headers: Headers, receive: Receive, send: Send, most_bytes: int, uploads: Uploads | None
) -> None:
    """Gives the body to the page while it comes, up to so many bytes and as long as there is room on the disk."""
    route = local_path(scope)
    length = int(headers.get(b"content-length", b"0"))
    if length > most_bytes:
        await _refuse_unread(TOO_LARGE, route, headers, receive, send, most_bytes)
        return
    try:
        upload = uploads.begin(length) if uploads else None
    except DiskFull as error:
        await _refuse_unread(_full(error), route, headers, receive, send, most_bytes)
        return
    body, answer = _Counted(receive, most_bytes, upload), _Withheld(send)
    try:
        await app(scope, body.receive, answer.send)
    except MultiPartException:
        if not body.was_cut:
            raise
    except TypeError:  # of Gradio, where a field is no file
        if answer.is_under_way or route != _UPLOAD:
            raise
        body.refusal = NO_FILE
    except OSError as error:
        if error.errno not in NO_ROOM or answer.is_under_way:
            raise
        log.warning("An upload failed: %s", error.strerror)
        traceback.clear_frames(error.__traceback__)  # they hold the part file open, and so its room on the disk
        body.refusal = _full(disk_full())
    finally:
        if upload is not None:
            upload.end()
    if body.refusal is None:
        await answer.release()
    elif not answer.is_under_way:
        await _refuse_unread(body.refusal, route, {}, receive, send, 0 if body.is_whole else most_bytes)


class _Counted:
    """A body on its way to the page. When it must end, the page is told that a form is broken: so it cleans up."""

    def __init__(self, receive: Receive, most_bytes: int, upload: Upload | None):
        self._receive = receive
        self._most_bytes = most_bytes
        self._upload = upload
        self._count_bytes = 0
        self.is_whole = False
        self.was_cut = False
        self.refusal: Refusal | None = None

    async def receive(self) -> Message:
        message = await self._receive() if not self.was_cut else {"type": "http.disconnect"}
        if self.is_whole or self.was_cut:
            return message
        if message["type"] == "http.disconnect":
            raise self._cut(None)
        self.is_whole = not message.get("more_body", False)
        count_bytes = len(message.get("body", b""))
        self._count_bytes += count_bytes
        if self._count_bytes > self._most_bytes:
            raise self._cut(TOO_LARGE)
        try:
            if self._upload is not None:
                self._upload.arrived(count_bytes)
        except DiskFull as error:
            raise self._cut(_full(error)) from error
        return message

    def _cut(self, refusal: Refusal | None) -> MultiPartException:
        self.was_cut, self.refusal = True, refusal
        return MultiPartException("The upload was cut.")


class _Withheld:
    """An answer that waits while it is a failure: why it failed may deserve a better one."""

    def __init__(self, send: Send):
        self._send = send
        self._waiting: list[Message] = []
        self.is_under_way = False

    async def send(self, message: Message) -> None:
        if self._waiting or (message["type"] == "http.response.start" and message["status"] >= 400):
            self._waiting.append(message)
            return
        self.is_under_way = True
        await self._send(message)

    async def release(self) -> None:
        for message in self._waiting:
            await self._send(message)


def _full(error: DiskFull) -> Refusal:
    return Refusal(507, str(error))


async def _refuse_unread(
    refusal: Refusal, route: str, headers: Headers, receive: Receive, send: Send, most_bytes: int
) -> None:
    """Reads the rest of the body first and keeps nothing: a browser that is still sending would not see the answer."""
    is_whole, count_bytes = b"expect" in headers, 0  # who expects to be told to go on has sent nothing
    while not is_whole and count_bytes < _PASSED_OVER * most_bytes:
        message = await receive()
        count_bytes += len(message.get("body", b""))
        is_whole = not message.get("more_body", False)
    await refuse(refusal, route, send, close=True)


def _names_an_address(body: bytes) -> bool:
    """Whether a file's path, or an input itself, is an address that the page would fetch."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return False  # the page refuses it, too
    waiting: list[Any] = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if _is_address(value.get("path")):
                return True
            waiting.extend(value.values())
        elif isinstance(value, list):
            if any(map(_is_address, value)):
                return True
            waiting.extend(value)
    return False


def _is_address(value: Any) -> bool:
    return isinstance(value, str) and _ADDRESS.match(value) is not None
