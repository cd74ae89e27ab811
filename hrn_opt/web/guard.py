"""An ASGI layer before the page: it lets through what the page and its clients need, and gives answers their headers.

Refused are other routes, bodies that are too large, headers that contradict each other, other sites' requests, and
whatever would make the server fetch. Also /healthz, which tells a supervisor that the server lives; it needs no
password and says nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

JSON_BYTES = 1_000_000  # of a request's parameters; photos come by /upload
_PASSED_OVER = 4  # times what is allowed; whoever sends more may find the line cut
# Recorded from the page in a browser, gradio_client and curl; what else Gradio 6.31 answers, nobody here needs.
# "startup-events" is Gradio's own call to itself when it starts.
_READ = re.compile(
    r"/(|robots\.txt|config|login|logout|theme\.css|favicon\.ico|manifest\.json|(assets|static)(/[\w.-]+)+"
    r"|gradio_api/(info|upload_progress|queue/data|startup-events|heartbeat/\w+|file=/.+|call/\w+/\w+))"
)
_WRITE = re.compile(r"/(login|gradio_api/(upload|run/predict|queue/join|cancel|reset|call/\w+))")
_ONCE = (b"host", b"content-type", b"content-length", b"transfer-encoding")
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
        send, path, reads = _with_headers(send, scope["path"]), scope["path"], scope["method"] in ("GET", "HEAD")
        names = [name.lower() for name, _ in scope["headers"]]
        headers = {name.lower(): value for name, value in scope["headers"]}
        if any(names.count(name) > 1 for name in _ONCE) or {b"content-length", b"transfer-encoding"} <= headers.keys():
            await _answer(send, 400, b"These headers contradict each other.")
        elif path == "/healthz":
            health = json.dumps({"status": "ok", "jobs": self._jobs()}).encode()
            await _answer(send, 200, health, b"application/json")
        elif _comes_from_elsewhere(headers):
            await _answer(send, 403, b"Only this server's own page may do that.")
        elif reads and _READ.fullmatch(path):
            await self._app(scope, receive, send)
        elif scope["method"] == "POST" and _WRITE.fullmatch(path):
            await self._with_body(scope, headers, receive, send)
        else:
            await _answer(send, 404, b"There is nothing here.")

    async def _with_body(
        self, scope: dict[str, Any], headers: Mapping[bytes, bytes], receive: Receive, send: Send
    ) -> None:
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
        if len(body) > limit:
            await _answer(send, 413, b"Too large.")
            return
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
    """The whole body, or so much of it that it is too large; None when the client leaves first."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if not message.get("more_body", False) or len(body) > JSON_BYTES:
            return bytes(body)


def _comes_from_elsewhere(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a browser says that another site's page sent this; following a link to the page is no harm."""
    if (site := headers.get(b"sec-fetch-site")) is not None:
        follows_link = headers.get(b"sec-fetch-mode") == b"navigate" and headers.get(b"sec-fetch-dest") == b"document"
        return site not in (b"same-origin", b"none") and not follows_link
    origin = headers.get(b"origin")  # of browsers before 2023
    return origin is not None and origin.partition(b"://")[2] != headers.get(b"host")


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
