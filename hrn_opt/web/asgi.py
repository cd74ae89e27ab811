"""What the layers before the page share: ASGI's types, the path below a sub-path, and short answers."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus
from typing import Any

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Header = tuple[bytes, bytes]

VISITOR = "hrn_opt.visitor"  # in the scope: who asks, a str
USER = "hrn_opt.user"  # in the scope: the signed-in user's name, or None
REQUEST_ID = "hrn_opt.request_id"  # in the scope, and in the answer's X-Request-ID
MCP = "/api/v1/mcp"  # the path of the tool for language models, where there is one
MCP = "/api/v1/mcp"  # the path of the tool for language models, where there is one

PLAIN, HTML = b"text/plain; charset=utf-8", b"text/html; charset=utf-8"
NO_STORE: Header = (b"cache-control", b"no-store")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # they end lines, or steer a terminal


def local_path(scope: Scope) -> str:
    """The request's path without the sub-path that the page is served under; "/" for the page itself."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    if root and (path == root or path.startswith(f"{root}/")):
        path = path[len(root) :]
    return path or "/"


def client_address(scope: Scope) -> str:
    """The peer's IP address; behind trusted proxies uvicorn has put the visitor's there. "" for a Unix socket."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def header(scope: Scope, name: bytes) -> bytes:
    """The first header of that name, given in small letters; b"" without one."""
    return next((bytes(value) for key, value in scope["headers"] if key.lower() == name), b"")


def cleaned(text: str, most_characters: int = 64) -> str:
    """The text on one line and no longer, fit for a log: control characters become escapes."""
    return _CONTROLS.sub(lambda control: control[0].encode("unicode_escape").decode(), text[:most_characters])


async def answer(
    send: Send, status: int, body: bytes = b"", content_type: bytes = PLAIN, headers: Iterable[Header] = ()
) -> None:
    """Sends a whole answer; `headers` come beside its type and length."""
    own = [(b"content-type", content_type), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": own})
    await send({"type": "http.response.body", "body": body})


async def refuse(send: Send, path: str, status: int, reason: str, headers: Iterable[Header] = ()) -> None:
    """Sends an error: problem details (RFC 9457) below /api/, a sentence elsewhere. path: as of `local_path`."""
    headers = (NO_STORE, *headers)
    if path.startswith("/api/"):
        problem = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": reason}
        content = json.dumps({**problem, "error": f"Http{status}"}).encode()
        await answer(send, status, content, b"application/problem+json", headers)
    else:
        await answer(send, status, reason.encode(), PLAIN, headers)


async def read_body(receive: Receive, most_bytes: int) -> bytes | None:
    """The whole body, or a little more than `most_bytes` of a longer one; None when the client leaves first."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if not message.get("more_body", False) or len(body) > most_bytes:
            return bytes(body)


def replayed(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body that was read already, then what comes after it."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return messages.pop() if messages else await receive()

    return again
