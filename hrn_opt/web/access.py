"""Who may use the page: users with hashed passwords, and no open door to other machines unless told so.

A user is one line, `name:scrypt.15.8.1.SALT.HASH`, made by `hrn-opt hash-password NAME`. No sign in it means
anything to a shell, so that it fits into an environment variable.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Mapping
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


def hash_password(password: str) -> str:
    """The part of a user's line behind the colon."""
    if not password:
        raise OptionInvalid("The password is empty; choose one.")
    salt = secrets.token_bytes(_SALT_BYTES)
    digest = _scrypt(password, salt, _LOG2_COST, _BLOCK, _PARALLEL)
    return f"{_KIND}.{_LOG2_COST}.{_BLOCK}.{_PARALLEL}.{_text(salt)}.{_text(digest)}"


def read_users(text: str) -> Users:
    """The users of a text with one a line, or parted by commas; empty lines and those that begin with # are passed."""
    hashes: dict[str, _Hash] = {}
    for line in text.replace(",", "\n").splitlines():
        if not (line := line.strip()) or line.startswith("#"):
            continue
        name, colon, hashed = line.partition(":")
        if not (colon and name) or name in hashes:
            raise OptionInvalid(f"User {name[:20]!r} has no password, no name, or stands there twice; {_HOW}.")
        hashes[name] = _parse(name, hashed)
    return Users(hashes)


def read_users_file(path: Path) -> Users:
    try:
        users = read_users(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise OptionInvalid(f"The file of users {str(path)!r} cannot be read; check the path.") from error
    if not users:
        raise OptionInvalid(f"The file of users {str(path)!r} names nobody; {_HOW}.")
    return users


def check_address(host: str, users: Users, public: bool) -> None:
    """Raises OptionInvalid for an address that others reach, when neither users nor `public` say that this is meant."""
    if users or public or is_loopback(host):
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


def _parse(name: str, hashed: str) -> _Hash:
    try:
        kind, log2_cost, block, parallel, salt, digest = hashed.strip().split(".")
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
