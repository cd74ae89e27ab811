"""Signing in: a page of its own, and passwords that cannot be guessed by trying, nor keep others waiting."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import math
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from html import escape
from urllib.parse import parse_qsl

from hrn_opt.web.asgi import (
    HTML,
    NO_STORE,
    Header,
    Receive,
    Scope,
    Send,
    answer,
    cleaned,
    client_address,
    header,
    read_body,
)
from hrn_opt.web.door.access import Users
from hrn_opt.web.door.backoff import BackOff
from hrn_opt.web.door.cookies import Cookies, new_visitor
from hrn_opt.web.door.signin_words import say_signin
from hrn_opt.web.watch.logs import FIELDS
from hrn_opt.web.words import language_of

log = logging.getLogger("hrn_opt.signin")

ASK_FOR_TOKEN: Header = (b"www-authenticate", b'Bearer realm="hrn-opt"')
_AT_ONCE = 2  # of 32 MB and 0.1 s each
_MOST_BODY_BYTES = 4096
_MOST_NAME_CHARACTERS = 128
_MOST_WAIT_OF_ADDRESS_S = 900.0
_MOST_WAIT_OF_USER_S = 60.0  # short: strangers who guess must not lock the user out for long
_MOST_KNOWN_PLACES = 4096
_PAGE = """<!doctype html>
<html lang="{language}"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex"><title>{title}</title><style>
:root {{ color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }}
body {{ margin: 0; min-height: 100vh; display: grid; place-items: center }}
main {{ width: min(22rem, 100vw - 2rem) }}
h1 {{ font-size: 1.5rem }}
label {{ display: block; margin-top: 1rem }}
input, button {{ box-sizing: border-box; width: 100%; padding: .75rem; font: inherit; border-radius: .5rem }}
input {{ border: 1px solid #767676 }}
button {{ margin-top: 1.5rem; border: 0; background: #1d4ed8; color: #fff; cursor: pointer }}
p {{ padding: .75rem; border: 1px solid currentColor; border-radius: .5rem }}
</style></head><body><main><h1>{title}</h1>{note}{form}</main></body></html>
"""
_FORM = """<form method="post"><label for="name">{name}</label>
<input id="name" name="name" autocomplete="username" autocapitalize="none" spellcheck="false" required autofocus>
<label for="password">{password}</label>
<input id="password" name="password" type="password" autocomplete="current-password" required>
<button>{submit}</button></form>"""


@dataclass(frozen=True)
class _Try:
    """name: as it was typed, cut.

    place: the address, of IPv6 the network of one household.
    """

    name: str
    password: str
    address: str
    place: str


class SignIn:
    """The page, and what its form sends."""

    def __init__(self, users: Users, cookies: Cookies):
        self._users = users
        self._cookies = cookies
        self._places = BackOff(_MOST_WAIT_OF_ADDRESS_S)
        self._names = BackOff(_MOST_WAIT_OF_USER_S)
        self._known_places: OrderedDict[tuple[str, str], None] = OrderedDict()  # (user, place) that signed in before
        self._threads = ThreadPoolExecutor(_AT_ONCE, "hrn-opt-signin")  # not asyncio's: photos may fill those
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers /signin of a server that has users or tokens."""
        if scope["method"] in ("GET", "HEAD"):
            await self._show(scope, send, 200)
        elif scope["method"] == "POST":
            await self._try(scope, receive, send)
        else:
            await answer(send, 405, headers=[(b"allow", b"GET, HEAD, POST")])

    async def _try(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(receive, _MOST_BODY_BYTES)
        if body is None:
            return
        if len(body) > _MOST_BODY_BYTES or (tried := _read_form(body, scope)) is None:
            await answer(send, 413 if len(body) > _MOST_BODY_BYTES else 400, b"This is no sign-in form.")
            return
        if (wait_s := self._wait_s(tried)) > 0:
            seconds = math.ceil(wait_s)
            self._log(tried, "refused")
            await self._show(scope, send, 429, "wait", [(b"retry-after", str(seconds).encode())], seconds=seconds)
        elif self._running >= _AT_ONCE:
            await self._show(scope, send, 503, "busy", [(b"retry-after", b"1")])
        elif await self._fits(tried):
            self._log(tried, "succeeded")
            # A new visitor: whoever knew or set the name that this browser had before gains nothing by it.
            cookie = self._cookies.written(scope, new_visitor(tried.name))
            await answer(send, 303, headers=[(b"location", root_of(scope)), cookie, NO_STORE])
        else:
            self._log(tried, "failed")
            await self._show(scope, send, 401, "wrong", [ASK_FOR_TOKEN])

    async def _fits(self, tried: _Try) -> bool:
        self._places.count(tried.place)
        self._names.count(tried.name)
        self._running += 1
        try:
            loop = asyncio.get_running_loop()
            fits = await loop.run_in_executor(self._threads, self._users.allows, tried.name, tried.password)
        finally:
            self._running -= 1
        if fits:
            self._places.take_back(tried.place)  # only this try: an own account must not buy guesses at others
            self._names.forget(tried.name)
            self._known_places[tried.name, tried.place] = None
            self._known_places.move_to_end((tried.name, tried.place))
            while len(self._known_places) > _MOST_KNOWN_PLACES:
                self._known_places.popitem(last=False)
        return fits

    def _wait_s(self, tried: _Try) -> float:
        wait_s = self._places.wait_s(tried.place)
        if (tried.name, tried.place) in self._known_places:
            return wait_s
        return max(wait_s, self._names.wait_s(tried.name))

    def _log(self, tried: _Try, outcome: str) -> None:
        level = logging.INFO if outcome == "succeeded" else logging.WARNING
        # The name comes last: whatever it is, what stands before it can be relied on.
        fields = {"outcome": outcome, "address": tried.address, "user": cleaned(tried.name)}
        log.log(level, "sign-in", extra={FIELDS: fields})

    async def _show(
        self, scope: Scope, send: Send, status: int, key: str = "", headers: list[Header] | None = None, **values: int
    ) -> None:
        """Sends the page; key: of the sentence above its form."""
        language = language_of({"accept-language": header(scope, b"accept-language").decode("latin-1")})
        if not self._users:
            key = "nobody"
        words = {word: escape(say_signin(language, word)) for word in ("title", "name", "password", "submit")}
        note = f'<p role="alert">{escape(say_signin(language, key, **values))}</p>' if key else ""
        form = _FORM.format(**words) if self._users else ""
        page = _PAGE.format(language=language, title=words["title"], note=note, form=form)
        await answer(send, status, page.encode(), HTML, [NO_STORE, *(headers or [])])


def root_of(scope: Scope) -> bytes:
    """Where the page is: all that anybody is ever sent to, whatever the request names."""
    return f"{scope.get('root_path', '')}/".encode("latin-1")


def _read_form(body: bytes, scope: Scope) -> _Try | None:
    """What the form holds; None for what is no form."""
    if header(scope, b"content-type").partition(b";")[0].strip().lower() != b"application/x-www-form-urlencoded":
        return None
    try:
        fields = dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=8))
    except ValueError:
        return None
    if not {"name", "password"} <= fields.keys():
        return None
    address = client_address(scope)
    return _Try(fields["name"][:_MOST_NAME_CHARACTERS], fields["password"], address, _place(address))


def _place(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network(f"{parsed.exploded.partition('%')[0]}/64", strict=False))
