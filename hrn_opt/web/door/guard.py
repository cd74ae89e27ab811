"""The outermost ASGI layer: it lets through what the page and its clients need, and gives answers their headers.

Refused are other routes, bodies that are too large, headers that contradict each other, other sites' requests, and
whatever would make the server fetch.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from hrn_opt.web.asgi import MCP, App, Message, Receive, Scope, Send, local_path
from hrn_opt.web.door.bodies import has_other_charset, is_form, pass_parameters, pass_upload
from hrn_opt.web.door.requests import (
    NOTHING_HERE,
    OTHER_CHARSET,
    OTHER_HOST,
    OTHER_SITE,
    Headers,
    Hosts,
    Refusal,
    comes_from_elsewhere,
    headers_of,
    refuse,
    with_root,
)
from hrn_opt.web.door.uploads import Uploads

# Recorded from the page in a browser, gradio_client and curl; what else Gradio 6.31 answers, nobody here needs.
_READ = (
    r"/(|robots\.txt|config|theme\.css|favicon\.ico|(assets|static)(/[\w.-]+)+"
    r"|gradio_api/(info|upload_progress|queue/data|heartbeat/\w+|file=/.+|call/create/\w+)"
    r"|healthz|readyz|metrics|version|signin|api/v1/(openapi\.json|docs|files/[\w-]+/.+))"
)
_WRITE = (
    r"/(gradio_api/(upload|run/predict|queue/join|cancel|reset|call/create)"
    r"|signin|signout|api/v1/faces)"
)
_ANY_HOST = frozenset(("/healthz", "/readyz"))  # a supervisor asks by whatever address it knows
_PRIVATE = (b"cache-control", b"private, no-store")
_EVENTS, _UNBUFFERED = b"text/event-stream", (b"x-accel-buffering", b"no")  # nginx would collect them to the end
_POLICY = (
    # The page runs inline scripts and styles, and its 3D viewer decodes in workers; nothing of it lies elsewhere.
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
)


class Guard:
    """max_body_bytes: of a request that uploads; parameters are limited more.

    hosts: names that the server answers to, such as "faces.example"; none for any.
    embed_in: other sites' origins, such as "https://huggingface.co", whose pages may show ours in a frame.
    root_path: where the server stands below a proxy, such as "/faces"; the proxy may take it off the path, or not.
    uploads: counts them and cleans up after them.
    mcp_body_bytes: of a message to the tool for language models, which holds a photo; 0 where there is no such tool.
    """

    def __init__(
        self,
        app: App,
        *,
        max_body_bytes: int = 1 << 26,
        hosts: Sequence[str] = (),
        embed_in: Sequence[str] = (),
        root_path: str = "",
        uploads: Uploads | None = None,
        mcp_body_bytes: int = 0,
    ):
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._hosts = Hosts(hosts)
        self._may_be_embedded = bool(embed_in)
        self._headers = _security_headers(embed_in)
        self._root_path = root_path.rstrip("/")
        self._uploads = uploads
        self._mcp_body_bytes = mcp_body_bytes
        added = f"|{MCP}" if mcp_body_bytes else ""
        self._routes = {
            "GET": re.compile(_READ + added),
            "HEAD": re.compile(_READ),
            "POST": re.compile(_WRITE + added),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(with_root(scope, self._root_path), receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = local_path(scope)
        send = self._with_headers(send, route)
        headers = headers_of(scope)
        if isinstance(headers, Refusal):
            await refuse(headers, route, send, close=True)
        elif self._root_path and scope["path"] == self._root_path:
            await _redirect(self._root_path + "/", send)  # the page names its files relatively to that
        elif refusal := self._refusal(scope["method"], route, headers):
            await refuse(refusal, route, send, close=scope["method"] not in ("GET", "HEAD"))
        elif scope["method"] != "POST":
            await self._app(scope, receive, send)
        elif route == MCP:  # fetches nothing, whatever its body names
            await pass_upload(self._app, scope, headers, receive, send, self._mcp_body_bytes, self._uploads)
        elif is_form(headers):
            await pass_upload(self._app, scope, headers, receive, send, self._max_body_bytes, self._uploads)
        else:
            await pass_parameters(self._app, scope, headers, receive, send)

    def _refusal(self, method: str, route: str, headers: Headers) -> Refusal | None:
        if route not in _ANY_HOST and not self._hosts.know(headers):
            return OTHER_HOST
        if comes_from_elsewhere(method, headers, self._hosts, may_be_embedded=self._may_be_embedded):
            return OTHER_SITE
        if method not in self._routes or not self._routes[method].fullmatch(route):
            return NOTHING_HERE
        return OTHER_CHARSET if has_other_charset(headers) else None

    def _with_headers(self, send: Send, route: str) -> Send:
        own = (*self._headers, _PRIVATE) if "/file=" in route else self._headers
        replaced = {name for name, _ in own} | {b"x-frame-options"}

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = [(name.lower(), value) for name, value in message.get("headers", ())]
                others = [pair for pair in given if pair[0] not in replaced and not _lets_others_read(pair[0])]
                unbuffered = [_UNBUFFERED] if dict(given).get(b"content-type", b"").startswith(_EVENTS) else []
                message = {**message, "headers": [*others, *own, *unbuffered]}
            await send(message)

        return sending


async def _redirect(path: str, send: Send) -> None:
    headers = [(b"location", path.encode()), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 308, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def _lets_others_read(name: bytes) -> bool:
    return name.startswith(b"access-control-")


def _security_headers(embed_in: Sequence[str]) -> tuple[tuple[bytes, bytes], ...]:
    policy = "; ".join((*_POLICY, " ".join(("frame-ancestors 'self'", *embed_in))))
    headers = (
        (b"content-security-policy", policy.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"same-origin"),
        (b"permissions-policy", b"camera=(self), microphone=(), geolocation=()"),
    )
    if embed_in:  # neither of the two below knows of exceptions
        return headers
    return (*headers, (b"x-frame-options", b"SAMEORIGIN"), (b"cross-origin-opener-policy", b"same-origin"))
