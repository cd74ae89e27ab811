"""An ASGI layer before the page that refuses to fetch from elsewhere on a visitor's behalf."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

_FETCHES_ELSEWHERE = re.compile(r"/(proxy=|file=\s*https?:)", re.IGNORECASE)


class RefuseFetching:
    """Answers 403 to the page server's two routes that would request an address named by the client."""

    def __init__(self, app: Callable[..., Awaitable[None]]):
        self._app = app

    async def __call__(self, scope: dict[str, Any], receive: Callable, send: Callable) -> None:
        if scope["type"] != "http" or not _FETCHES_ELSEWHERE.search(scope["path"]):
            await self._app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"This server fetches nothing from elsewhere."})
