"""An ASGI layer before the page: what is too large or would make the server fetch is refused, answers get headers.

Also /healthz, which tells a supervisor that the server lives; it needs no password and says nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

JSON_BYTES = 1_000_000  # of a request's parameters; photos come by /upload
_PASSED_OVER = 4  # times what is allowed; whoever sends more may find the line cut
_FETCHES_ELSEWHERE = re.compile(r"/(proxy=|file=\s*[a-z][a-z0-9+.-]+:)", re.IGNORECASE)
_ADDRESS = re.compile(r"\s*([a-z][a-z0-9+.-]*:)?[/\\]{2}", re.IGNORECASE)
# The page runs inline scripts and styles, and its 3D viewer decodes in workers; nothing of it lies elsewhere.
_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'self'",
    )
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"SAMEORIGIN"),
    (b"referrer-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(self), microphone=(), geolocation=()"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
_PRIVATE = (b"cache-control", b"private, no-store")

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Guard:
    """max_body_bytes: of any request.
    jobs: how many photos are being worked on, for /healthz.
    """

    def __init__(
        self,
        app: Callable[..., Awaitable[None]],
        max_body_bytes: int = 1 << 26,
        jobs: Callable[[], int] = lambda: 0,
    ):
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._jobs = jobs

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        send = _with_headers(send, scope["path"])
        if scope["path"] == "/healthz":
            health = json.dumps({"status": "ok", "jobs": self._jobs()}).encode()
            await _answer(send, 200, health, b"application/json")
        elif _FETCHES_ELSEWHERE.search(scope["path"]):
            await _answer(send, 403, b"This server fetches nothing from elsewhere.")
        elif scope["method"] in ("POST", "PUT", "PATCH"):
            await self._with_body(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _with_body(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"")
        if not length.isdigit():
            await _answer(send, 411, b"Say how long the body is (Content-Length).")
            return
        is_upload = headers.get(b"content-type", b"").lower().startswith(b"multipart/form-data")
        limit = self._max_body_bytes if is_upload else JSON_BYTES
        if int(length) > limit:
            await _pass_over(receive, _PASSED_OVER * limit)
            await _answer(send, 413, b"Too large.")
            return
        if is_upload:
            await self._app(scope, receive, send)
            return
        body = await _read(receive)
        if body is None:
            return  # the client has left
        # Whatever its type says: the page reads JSON from bodies of any.
        if _names_an_address(body):
            await _answer(send, 403, b"This server fetches nothing from elsewhere; upload the photo.")
            return
        await self._app(scope, _replayed(body, receive), send)


async def _pass_over(receive: Receive, most_bytes: int) -> None:
    """Reads the body and keeps nothing: a browser that is still sending would not see the answer."""
    count = 0
    while count < most_bytes:
        message = await receive()
        count += len(message.get("body", b""))
        if not message.get("more_body", False):
            return


async def _read(receive: Receive) -> bytes | None:
    """The whole body; None when the client leaves first."""
    parts = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _replayed(body: bytes, receive: Receive) -> Receive:
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> dict[str, Any]:
        return messages.pop() if messages else await receive()

    return again


def _names_an_address(body: bytes) -> bool:
    """Whether a file's path, or an input itself, is an address that the page would fetch."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return False  # the page refuses it, too
    waiting = [content]
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


def _with_headers(send: Send, path: str) -> Send:
    own = (*_HEADERS, _PRIVATE) if "/file=" in path else _HEADERS
    replaced = {name for name, _ in own}

    async def sending(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            others = [pair for pair in message.get("headers", ()) if pair[0].lower() not in replaced]
            message = {**message, "headers": [*others, *own]}
        await send(message)

    return sending


async def _answer(send: Send, status: int, body: bytes, content_type: bytes = b"text/plain; charset=utf-8") -> None:
    headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
