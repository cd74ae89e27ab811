"""The layer that knows who asks: strangers get the sign-in page, and nobody gets what belongs to somebody else."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from hrn_opt.web.asgi import (
    NO_STORE,
    USER,
    VISITOR,
    App,
    Header,
    Message,
    Receive,
    Scope,
    Send,
    answer,
    cleaned,
    client_address,
    header,
    local_path,
    refuse,
)
from hrn_opt.web.door.access import Access
from hrn_opt.web.door.cookies import Cookies, CookieVisitor, new_visitor
from hrn_opt.web.door.owners import Owners
from hrn_opt.web.door.ownership import Ownership
from hrn_opt.web.door.signin import ASK_FOR_TOKEN, SignIn, root_of

# What supervisors, robots and browsers ask for before anybody has signed in.
_OPEN = ("/healthz", "/readyz", "/version", "/signin", "/robots.txt", "/favicon.ico")


@dataclass(frozen=True)
class _Asker:
    """visitor: the cookie's name for the visitor, "token:NAME" or "address:IP".

    user: who has signed in, by cookie.
    is_admitted: whether the page is for them.
    cookie: what their cookie holds.
    """

    visitor: str
    user: str | None
    is_admitted: bool
    cookie: CookieVisitor | None = None


class Gate:
    """Stands inside the guard, which refuses other sites' requests, and before everything that knows visitors.

    Sets scope["hrn_opt.visitor"] and scope["hrn_opt.user"].

    access: who may; everybody where it is empty.
    secret: signs cookies; "" for a new one at each start.
    is_embedded: whether pages of other sites show this one in a frame.
    functions: as of `Ownership`.
    """

    def __init__(
        self,
        app: App,
        access: Access,
        owners: Owners,
        secret: str = "",
        is_embedded: bool = False,
        functions: Container[int] | None = None,
    ):
        self._app = app
        self._access = access
        self._cookies = Cookies(secret, access.users, is_embedded)
        self._sign_in = SignIn(access.users, self._cookies)
        self._owned = Ownership(app, owners, functions)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # nothing here speaks it
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path, asker = local_path(scope), self._asker(scope)
        scope[VISITOR], scope[USER] = asker.visitor, asker.user
        if path == "/signin":
            await self._at_signin(asker, scope, receive, send)
        elif path == "/signout":
            await self._sign_out(asker, scope, send)
        elif asker.is_admitted or path in _OPEN:
            if path == "/" and scope["method"] == "GET":
                send = _with_headers(send, self._cookies.written(scope, asker.cookie or new_visitor()), NO_STORE)
            await self._owned(scope, path, asker.visitor, receive, send)
        elif path == "/" and scope["method"] in ("GET", "HEAD"):
            await answer(send, 303, headers=[(b"location", root_of(scope) + b"signin"), NO_STORE])
        else:
            await refuse(send, path, 401, "Sign in, or send a token.", [ASK_FOR_TOKEN])

    def _asker(self, scope: Scope) -> _Asker:
        is_open = not self._access
        kind, _, token = header(scope, b"authorization").decode("latin-1").partition(" ")
        if self._access.tokens and kind.lower() == "bearer":
            name = self._access.tokens.name_of(token.strip())
            if name is not None:
                return _Asker(f"token:{cleaned(name)}", None, True)
            return _Asker(f"address:{client_address(scope)}", None, False)
        if cookie := self._cookies.read(scope):
            return _Asker(cookie.name, cookie.user, is_open or cookie.user is not None, cookie)
        return _Asker(f"address:{client_address(scope)}", None, is_open)

    async def _at_signin(self, asker: _Asker, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._access or (asker.user and scope["method"] in ("GET", "HEAD")):
            await answer(send, 303, headers=[(b"location", root_of(scope)), NO_STORE])
        else:
            await self._sign_in(scope, receive, send)

    async def _sign_out(self, asker: _Asker, scope: Scope, send: Send) -> None:
        """By POST only: a picture's address on another page must not sign anybody out."""
        if scope["method"] != "POST":
            await refuse(send, "/signout", 405, "Use POST.", [(b"allow", b"POST")])
            return
        cookie = self._cookies.ended(scope, asker.cookie)
        await answer(send, 303, headers=[(b"location", root_of(scope)), cookie, NO_STORE])


def _with_headers(send: Send, *own: Header) -> Send:
    """Adds the headers to the answer, in the place of others of the same name, but for cookies."""
    replaced = {name for name, _ in own if name != b"set-cookie"}

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            others = [pair for pair in message.get("headers", ()) if pair[0].lower() not in replaced]
            message = {**message, "headers": [*others, *own]}
        await send(message)

    return sending
