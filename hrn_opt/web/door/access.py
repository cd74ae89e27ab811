"""Who may use the page: users with hashed passwords, programs with tokens, and no open door unless told so.

A user is one line, `name:scrypt.15.8.1.SALT.HASH`, made by `hrn-opt hash-password NAME`; a program's token is one
line, `name:sha256.HEX`, made by `hrn-opt make-token NAME`. No sign in them means anything to a shell, so that they fit
into an environment variable.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hrn_opt.errors import OptionInvalid
from hrn_opt.program import PROGRAM

_KIND = "scrypt"
_LOG2_COST, _BLOCK, _PARALLEL = 15, 8, 1  # 32 MB and about 0.1 s a try
_MOST_LOG2_COST = 20  # a line that asks for more would take the machine's memory
_SALT_BYTES, _HASH_BYTES = 16, 32
_COMMAND = f"{PROGRAM} hash-password NAME"
_HOW = f"make it with: {_COMMAND}"
_TOKEN_KIND, _TOKEN_BYTES = "sha256", 32  # of full entropy, so that a fast hash is as good as a slow one
_TOKEN_DIGEST = re.compile(rf"{_TOKEN_KIND}\.[0-9a-f]{{64}}")
_TOKEN_HOW = f"make it with: {PROGRAM} make-token NAME"


@dataclass(frozen=True)
class _Hash:
    log2_cost: int
    block: int
    parallel: int
    salt: bytes
    digest: bytes

    def fits(self, password: str) -> bool:
        given = _scrypt(password, self.salt, self.log2_cost, self.block, self.parallel)
        return hmac.compare_digest(given, self.digest)


@dataclass(frozen=True)
class Users:
    """Names and hashed passwords; falsy when there are none."""

    hashes: Mapping[str, _Hash] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.hashes)

    def allows(self, name: str, password: str) -> bool:
        """Whether the password is that user's. Unknown names take the same time, so that it tells nothing."""
        known = self.hashes.get(name)
        fits = (known or _NOBODY).fits(password)
        return known is not None and fits

    def mark_of(self, name: str) -> str:
        """What changes when the user's password does, and tells nothing of it; "" for an unknown name."""
        known = self.hashes.get(name)
        return hashlib.sha256(known.salt + known.digest).hexdigest()[:16] if known else ""


@dataclass(frozen=True)
class Tokens:
    """Names of programs and the SHA-256 digests of their tokens; falsy when there are none."""

    digests: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.digests)

    def name_of(self, token: str) -> str | None:
        """The program whose token this is. Every digest is compared whole, so that the time tells nothing."""
        given = _token_digest(token)
        fitting = [name for name, digest in self.digests.items() if hmac.compare_digest(given, digest)]
        return fitting[0] if fitting else None


@dataclass(frozen=True)
class Access:
    """Who may; falsy when everybody may."""

    users: Users = field(default_factory=Users)
    tokens: Tokens = field(default_factory=Tokens)

    def __bool__(self) -> bool:
        return bool(self.users or self.tokens)


def hash_password(password: str) -> str:
    """The part of a user's line behind the colon."""
    if not password:
        raise OptionInvalid("The password is empty; choose one.")
    salt = secrets.token_bytes(_SALT_BYTES)
    digest = _scrypt(password, salt, _LOG2_COST, _BLOCK, _PARALLEL)
    return f"{_KIND}.{_LOG2_COST}.{_BLOCK}.{_PARALLEL}.{_text(salt)}.{_text(digest)}"


def make_token() -> str:
    """A new secret of 256 random bits for one program."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


def hash_token(token: str) -> str:
    """The part of a program's line behind the colon."""
    return f"{_TOKEN_KIND}.{_token_digest(token)}"


def read_users(text: str) -> Users:
    """The users of a text with one a line, or parted by commas; empty lines and those that begin with # are passed."""
    hashes: dict[str, _Hash] = {}
    for name, hashed in _lines(text):
        if not name or name in hashes:
            raise OptionInvalid(f"User {name[:20]!r} has no password, no name, or stands there twice; {_HOW}.")
        hashes[name] = _parse(name, hashed)
    return Users(hashes)


def read_tokens(text: str) -> Tokens:
    """The programs' tokens of a text in the form of `read_users`."""
    digests: dict[str, str] = {}
    for name, hashed in _lines(text):
        if not name or name in digests:
            raise OptionInvalid(f"Token {name[:20]!r} has no digest, no name, or stands there twice; {_TOKEN_HOW}.")
        if not _TOKEN_DIGEST.fullmatch(hashed):
            raise OptionInvalid(f"The token of {name[:20]!r} is not hashed as it should be; {_TOKEN_HOW}.")
        digests[name] = hashed.partition(".")[2]
    return Tokens(digests)


def read_users_file(path: Path) -> Users:
    if users := read_users(_text_of(path, "users")):
        return users
    raise OptionInvalid(f"The file of users {str(path)!r} names nobody; {_HOW}.")


def read_tokens_file(path: Path) -> Tokens:
    if tokens := read_tokens(_text_of(path, "tokens")):
        return tokens
    raise OptionInvalid(f"The file of tokens {str(path)!r} names no program; {_TOKEN_HOW}.")


def check_address(host: str, is_closed: bool, public: bool) -> None:
    """Raises OptionInvalid for an address that others reach, unless users or tokens close it or `public` is meant."""
    if is_closed or public or is_loopback(host):
        return
    raise OptionInvalid(
        f"Whoever reaches {host} could use the page: set HRN_OPT_USERS or HRN_OPT_USERS_FILE "
        f"({_COMMAND}), or say --public if no password is meant."
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address; a name other than localhost is taken for a public one."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _lines(text: str) -> Iterator[tuple[str, str]]:
    """(name, what follows the colon) of each line; ("", "") where there is no colon."""
    for line in text.replace(",", "\n").splitlines():
        if (line := line.strip()) and not line.startswith("#"):
            name, colon, hashed = line.partition(":")
            yield (name, hashed.strip()) if colon else ("", "")


def _text_of(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise OptionInvalid(f"The file of {what} {str(path)!r} cannot be read; check the path.") from error


def _token_digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _parse(name: str, hashed: str) -> _Hash:
    try:
        kind, log2_cost, block, parallel, salt, digest = hashed.split(".")
        parsed = _Hash(int(log2_cost), int(block), int(parallel), _bytes(salt), _bytes(digest))
        sound = kind == _KIND and len(parsed.salt) >= 8 and len(parsed.digest) == _HASH_BYTES
        sound = sound and 10 <= parsed.log2_cost <= _MOST_LOG2_COST and 1 <= parsed.block <= 32
        if not (sound and 1 <= parsed.parallel <= 16):
            raise ValueError
    except (ValueError, binascii.Error):
        raise OptionInvalid(f"The password of user {name[:20]!r} is not hashed as it should be; {_HOW}.") from None
    return parsed


def _scrypt(password: str, salt: bytes, log2_cost: int, block: int, parallel: int) -> bytes:
    memory = 256 * block * (1 << log2_cost)  # twice what it needs; OpenSSL refuses above this
    return hashlib.scrypt(
        password.encode("utf-8", "surrogatepass"),
        salt=salt,
        n=1 << log2_cost,
        r=block,
        p=parallel,
        maxmem=memory,
        dklen=_HASH_BYTES,
    )


def _text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


_NOBODY = _Hash(_LOG2_COST, _BLOCK, _PARALLEL, b"nobody's salt", b"\0" * _HASH_BYTES)
