"""Whether Gradio's routes are asked for what is the asker's own: Gradio itself checks no owner.

Sessions and events belong to the first visitor who uses them, files to the visitors who uploaded or made them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Container, Iterator
from typing import Any
from urllib.parse import parse_qsl

from hrn_opt.web.asgi import App, Message, Receive, Scope, Send, read_body, refuse, replayed
from hrn_opt.web.door.owners import Owners

_MOST_BODY_BYTES = 1_000_000  # of parameters; the guard before this layer takes no more either
_MOST_NAME_CHARACTERS = 200  # of a session; the page's own have 11, events 32
_MOST_PATHS = 200  # in one body: each is looked up on the disk
_MOST_LEARNT_BYTES = 1_000_000  # of an answer that names events or uploads
_API = "/gradio_api/"
_FILE = re.compile(rf"{_API}file[=/](.*)", re.DOTALL)
_PLAIN_RANGE = re.compile(rb"bytes=(\d+-\d*|-\d+)")  # Gradio fails at others, and whoever asks must take the whole
_HEARTBEAT = re.compile(rf"{_API}heartbeat/([^/]*)/?")
_CALL = re.compile(rf"{_API}call/(?:v2/)?[^/]+/([^/]+)/?")
_NAMES = ("session_hash", "event_id")  # in bodies and queries
_ADDRESS = re.compile(rf"[a-z][a-z0-9+.-]*://|(/[\w.~-]+)*{_API}file=", re.IGNORECASE)  # beside a path, for the browser


class Foreign(Exception):
    """The request is for what belongs to another visitor."""


class Unclear(Exception):
    """The request can be read in two ways, or is like none that a client of ours sends."""


class Ownership:
    """The last layer before Gradio.

    functions: the numbers that Gradio knows the page's events by, and fails at others; None: not checked.
    """

    def __init__(self, app: App, owners: Owners, functions: Container[int] | None = None):
        self._app = app
        self._owners = owners
        self._functions = functions

    async def __call__(self, scope: Scope, path: str, visitor: str, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers 403 to a stranger. path: as of `local_path`."""
        if not path.startswith(_API):
            await self._app(scope, receive, send)
            return
        try:
            self._check_address(path, scope, visitor)
            if scope["method"] != "POST":
                await self._app(_with_plain_range(scope), receive, send)
            elif path.rstrip("/") == f"{_API}upload":
                learning = _learning(send, lambda answer: self._learn_uploads(answer, visitor))
                await self._app(_uncompressed(scope), receive, learning)
            else:
                await self._check_body(scope, path, visitor, receive, send)
        except Foreign:
            await refuse(send, path, 403, "This belongs to another visitor.")
        except Unclear:
            await refuse(send, path, 400, "This request cannot be understood.")

    def _check_address(self, path: str, scope: Scope, visitor: str) -> None:
        """Raises Foreign by the path and the query."""
        if (file := _FILE.fullmatch(path)) and not self._owners.may_read(file[1], visitor):
            raise Foreign
        if heartbeat := _HEARTBEAT.fullmatch(path):
            self._claim(heartbeat[1], visitor)
        # An event's name came with the answer that made it; nobody may be the first to ask for one.
        is_read = scope["method"] in ("GET", "HEAD")
        if is_read and (call := _CALL.fullmatch(path)) and self._owners.visitor_of(call[1]) != visitor:
            raise Foreign
        for name, value in _single(parse_qsl(scope.get("query_string", b"").decode("latin-1"), True)).items():
            if name in _NAMES:
                self._claim(value, visitor)
            elif name == "upload_id":
                self._claim(f"upload:{value}", visitor)

    async def _check_body(self, scope: Scope, path: str, visitor: str, receive: Receive, send: Send) -> None:
        body = await read_body(receive, _MOST_BODY_BYTES)
        if body is None:
            return
        if len(body) > _MOST_BODY_BYTES:
            await refuse(send, path, 413, "Too large.")
            return
        for name, value in self._content(body, visitor):
            if name in _NAMES and isinstance(value, str):
                self._claim(value, visitor)
            elif name == "fn_index" and not self._is_function(value):
                raise Unclear
        learning = _learning(send, lambda answer: self._learn_event(answer, visitor))
        await self._app(_uncompressed(scope), replayed(body, receive), learning)

    def _content(self, body: bytes, visitor: str) -> list[tuple[str, Any]]:
        """The names and values at the top of a JSON object; raises Foreign where a file of another visitor is named."""
        try:
            content = json.loads(body, object_pairs_hook=_single)
        except RecursionError:
            raise Unclear from None
        except ValueError:
            return []  # Gradio refuses it, too
        paths = list(_paths(content, self._owners.root_name))
        if len(paths) > _MOST_PATHS:
            raise Unclear
        if not all(self._owners.may_read(path, visitor) for path in paths):
            raise Foreign
        return list(content.items()) if isinstance(content, dict) else []

    def _is_function(self, number: object) -> bool:
        return self._functions is None or (isinstance(number, int) and number in self._functions)

    def _claim(self, session: str, visitor: str) -> None:
        if len(session) > _MOST_NAME_CHARACTERS:
            raise Unclear
        if session and not self._owners.claim_session(session, visitor):
            raise Foreign

    def _learn_event(self, answer: bytes, visitor: str) -> None:
        content = _parsed(answer)
        if isinstance(content, dict) and isinstance(event := content.get("event_id"), str):
            self._owners.claim_session(event, visitor)

    def _learn_uploads(self, answer: bytes, visitor: str) -> None:
        content = _parsed(answer)
        for path in content if isinstance(content, list) else ():
            if isinstance(path, str):
                self._owners.claim_path(path, visitor)


def _single(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The pairs as a dict. Unclear where a name stands twice: who reads on might take the other one."""
    content = dict(pairs)
    if len(content) < len(pairs):
        raise Unclear
    return content


def _paths(content: Any, root_name: str) -> Iterator[str]:
    """The path of every file in a JSON value, wherever it leads, and every other text that holds the root's name."""
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            if root_name in value and not _ADDRESS.match(value):
                yield value
        elif isinstance(value, dict):
            if isinstance(path := value.get("path"), str):
                yield path
            waiting.extend(one for name, one in value.items() if name != "path" or not isinstance(one, str))
        elif isinstance(value, list):
            waiting.extend(value)


def _parsed(answer: bytes) -> Any:
    try:
        return json.loads(answer)
    except ValueError:
        return None


def _with_plain_range(scope: Scope) -> Scope:
    """The same request; where it asks for a part that is not one simple range, it asks for the whole."""
    headers = [pair for pair in scope["headers"] if pair[0].lower() != b"range" or _PLAIN_RANGE.fullmatch(pair[1])]
    return {**scope, "headers": headers}


def _uncompressed(scope: Scope) -> Scope:
    """Asks for an answer that can be read on its way."""
    return {**scope, "headers": [pair for pair in scope["headers"] if pair[0].lower() != b"accept-encoding"]}


def _learning(send: Send, learn: Callable[[bytes], None]) -> Send:
    """Has a good answer of moderate size learnt from before its end is sent: the client may use it at once."""
    body, status = bytearray(), 0

    async def sending(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
        elif status == 200 and len(body) <= _MOST_LEARNT_BYTES:
            body.extend(message.get("body", b""))
            if not message.get("more_body", False) and len(body) <= _MOST_LEARNT_BYTES:
                learn(bytes(body))
        await send(message)

    return sending
