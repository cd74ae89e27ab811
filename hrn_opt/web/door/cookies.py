"""The visitor's cookie: a random name for who asks, signed by the server, and who has signed in."""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from itsdangerous import BadSignature, URLSafeTimedSerializer

from hrn_opt.web.asgi import Header, Scope
from hrn_opt.web.door.access import Users

_KEPT_S = 30 * 86_400
_NAME = "hrn_opt"
_MOST_ENDED = 10_000  # signed-out visitors, whose cookies no longer hold; the oldest go first


@dataclass(frozen=True)
class CookieVisitor:
    """name: random, the same as long as the cookie holds.

    user: who has signed in; None for nobody.
    """

    name: str
    user: str | None = None


def new_visitor(user: str | None = None) -> CookieVisitor:
    return CookieVisitor(secrets.token_urlsafe(16), user)


class Cookies:
    """Reads and writes the cookie.

    secret: signs it; "" for a random one.
    users: who may be signed in; a cookie no longer holds when its user has gone or has a new password.
    is_embedded: whether pages of other sites show this one in a frame, where browsers want more of a cookie.
    """

    def __init__(self, secret: str = "", users: Users | None = None, is_embedded: bool = False):
        self._users = users or Users()
        self._is_embedded = is_embedded
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._signer = URLSafeTimedSerializer(
            secret or secrets.token_hex(32),
            salt="hrn_opt visitor",
            signer_kwargs={"digest_method": hashlib.sha256, "key_derivation": "hmac"},
        )

    def read(self, scope: Scope) -> CookieVisitor | None:
        """Whom the request's cookie names; None without one that holds."""
        wanted = f"{_name(scope)}=".encode()
        for key, value in scope["headers"]:
            if key.lower() != b"cookie":
                continue
            for pair in value.split(b";"):
                pair = pair.strip()
                if pair.startswith(wanted) and (visitor := self._opened(pair[len(wanted) :].decode("latin-1"))):
                    return visitor
        return None

    def written(self, scope: Scope, visitor: CookieVisitor) -> Header:
        """The header that gives the visitor the cookie, for 30 days from now."""
        user = visitor.user or ""
        value = self._signer.dumps([visitor.name, user, self._users.mark_of(user)])
        return self._header(scope, str(value), _KEPT_S)

    def ended(self, scope: Scope, visitor: CookieVisitor | None) -> Header:
        """The header that takes the cookie away; copies of it no longer hold either, until the server starts anew."""
        if visitor:
            self._ended[visitor.name] = None
            while len(self._ended) > _MOST_ENDED:
                self._ended.popitem(last=False)
        return self._header(scope, "", 0)

    def _opened(self, value: str) -> CookieVisitor | None:
        try:
            content: Any = self._signer.loads(value, max_age=_KEPT_S)
        except BadSignature:
            return None
        name, user, mark = content
        if name in self._ended:
            return None
        if user and (mark == "" or mark != self._users.mark_of(user)):
            return None
        return CookieVisitor(name, user or None)

    def _header(self, scope: Scope, value: str, kept_s: int) -> Header:
        parts = [f"{_name(scope)}={value}", f"Path={scope.get('root_path') or '/'}", f"Max-Age={kept_s}", "HttpOnly"]
        if not _is_secure(scope):
            parts += ["SameSite=Lax"]
        elif self._is_embedded:  # Partitioned: kept apart for each site that shows the page, as browsers ask
            parts += ["Secure", "SameSite=None", "Partitioned"]
        else:
            parts += ["Secure", "SameSite=Lax"]
        return b"set-cookie", "; ".join(parts).encode("latin-1")


def _is_secure(scope: Scope) -> bool:
    return bool(scope.get("scheme") == "https")


def _name(scope: Scope) -> str:
    """With a prefix that keeps other hosts of the same domain from setting it, where browsers allow one."""
    return f"__Host-{_NAME}" if _is_secure(scope) and not scope.get("root_path") else _NAME
