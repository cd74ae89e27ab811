"""What a request says of where it comes from and where it goes, and why it is refused."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hrn_opt.web import asgi
from hrn_opt.web.asgi import Scope, Send

Headers = Mapping[bytes, bytes]  # names in lower case

HEAD_BYTES = 16_384  # of all headers; what comes in one packet is not bounded by the connection's own limit
_ONCE = (b"host", b"content-type", b"content-length", b"transfer-encoding")


@dataclass(frozen=True)
class Refusal:
    """status: of the answer.
    detail: one sentence for whoever asked.
    """

    status: int
    detail: str


CONTRADICTION = Refusal(400, "These headers contradict each other.")
HEAD_TOO_LARGE = Refusal(431, "These headers are too large.")
OTHER_SITE = Refusal(403, "Only this server's own page may do that.")
OTHER_HOST = Refusal(421, "This server does not answer to that name.")
NOTHING_HERE = Refusal(404, "There is nothing here.")
TOO_LARGE = Refusal(413, "That is too large.")
OTHER_CHARSET = Refusal(415, "Forms are read as UTF-8 alone.")
NO_FILE = Refusal(422, "This form holds no file.")
FETCHES_NOTHING = Refusal(403, "This server fetches nothing from elsewhere; upload the photo.")


async def refuse(refusal: Refusal, route: str, send: Send, *, close: bool = False) -> None:
    """Answers as programs expect below /api/ (RFC 9457), and in plain words elsewhere.

    close: the connection, as there may be more of the request that nobody reads.
    """
    headers = [(b"connection", b"close")] if close else []
    await asgi.refuse(send, route, refusal.status, refusal.detail, headers)


def headers_of(scope: Scope) -> Headers | Refusal:
    pairs = [(name.lower(), value) for name, value in scope["headers"]]
    names, headers = [name for name, _ in pairs], dict(pairs)
    length = headers.get(b"content-length", b"0")
    if any(names.count(name) > 1 for name in _ONCE) or not (length.isdigit() and len(length) < 19):
        return CONTRADICTION
    if b"content-length" in headers and b"transfer-encoding" in headers:
        return CONTRADICTION
    if sum(len(name) + len(value) for name, value in pairs) > HEAD_BYTES:
        return HEAD_TOO_LARGE
    return headers


def with_root(scope: Scope, root_path: str) -> Scope:
    """The same request, changed as if the server stood at the root path; a proxy may have taken that off the path."""
    path = scope["path"]
    if not root_path:
        return scope
    if path == root_path or path.startswith(root_path + "/"):
        scope["root_path"] = root_path
        return scope
    raw_path = scope.get("raw_path") or path.encode()
    scope.update(root_path=root_path, path=root_path + path, raw_path=root_path.encode() + raw_path)
    return scope


class Hosts:
    """The names that the server answers to, with or without a port; any where none are given.

    A proxy's X-Forwarded-Host must be one of them, too: the page builds its own addresses from it.
    """

    def __init__(self, names: Iterable[str] = ()):
        self._names = frozenset(name.lower() for name in names)

    def know(self, headers: Headers) -> bool:
        given = [headers.get(b"host", b"")]
        given += [name for name in headers.get(b"x-forwarded-host", b"").split(b",") if name.strip()]
        return not self._names or all(self._knows(name.decode("latin-1").strip().lower()) for name in given)

    def are_origin(self, origin: bytes, headers: Headers) -> bool:
        """Whether the page at that origin is our own: it names the host that it asks, or a name that is ours."""
        host = origin.partition(b"://")[2]
        return host == headers.get(b"host") or host.decode("latin-1").lower() in self._names

    def _knows(self, host: str) -> bool:
        return host in self._names or re.sub(r":\d+$", "", host) in self._names


def comes_from_elsewhere(method: str, headers: Headers, hosts: Hosts, *, may_be_embedded: bool) -> bool:
    """Whether a browser says that another site's page sent this; following a link to the page is no harm.

    may_be_embedded: showing it in a frame is none, either; which sites may is for the browser to see to.
    """
    if (site := headers.get(b"sec-fetch-site")) is not None:
        shown_in = (b"document", b"iframe") if may_be_embedded else (b"document",)
        is_read = method in ("GET", "HEAD") and headers.get(b"sec-fetch-mode") == b"navigate"
        shows_page = is_read and headers.get(b"sec-fetch-dest") in shown_in
        return site not in (b"same-origin", b"none") and not shows_page
    origin = headers.get(b"origin")  # of browsers before 2023, and of plain http
    return origin is not None and not hosts.are_origin(origin, headers)
