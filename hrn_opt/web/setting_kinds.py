"""The kinds of settings: each reads a flag's or a variable's text, or a value from Python, and says what it wants.

A kind is `read`, which returns the value or raises ValueError, and `wanted`, what an allowed value is, in words.
"""

from __future__ import annotations

import ipaddress
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Reader = Callable[[object], object]

_YES, _NO = ("yes", "true", "on", "1"), ("no", "false", "off", "0", "")
_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*\.?")
_ORIGIN = re.compile(rf"https?://(\*\.)?({_LABEL}(\.{_LABEL})*|\[[0-9a-f:]+\])(:\d{{1,5}})?")
_SUB_PATH = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9_.~-]*)+")
_DEVICE = re.compile(r"auto|cpu|cuda(:\d{1,2})?")


@dataclass(frozen=True)
class Kind:
    """read: the value of a text, or of a value as it is; ValueError for one that is not allowed.

    wanted: what is allowed, to complete "... is not possible; use".
    """

    wanted: str
    read: Reader


def whole(least: int, most: int) -> Kind:
    """A whole number between the two, both allowed."""

    def read(given: object) -> int:
        if isinstance(given, bool) or not isinstance(given, (str, int)):
            raise ValueError
        if not least <= (number := int(given)) <= most:
            raise ValueError
        return number

    return Kind(f"a whole number from {least} to {most}", read)


def number(most: float, unit: str) -> Kind:
    """A finite number above 0 and at most `most`."""

    def read(given: object) -> float:
        if isinstance(given, bool) or not isinstance(given, (str, int, float)):
            raise ValueError
        if not (math.isfinite(value := float(given)) and 0 < value <= most):
            raise ValueError
        return value

    return Kind(f"a number of {unit} above 0, at most {most:g}", read)


def word(*words: str) -> Kind:
    """One of the words, whatever its case."""

    def read(given: object) -> str:
        if (lower := str(given).lower()) not in words:
            raise ValueError
        return lower

    return Kind(", ".join(words[:-1]) + f" or {words[-1]}", read)


def word_or(special: str, other: Kind) -> Kind:
    """The word, which stays itself, or a value of the other kind."""
    return Kind(f"{special}, or {other.wanted}", lambda given: special if given == special else other.read(given))


def several(wanted: str, one: Reader) -> Kind:
    """A tuple of values, in a text parted by commas; none is allowed."""

    def read(given: object) -> tuple[object, ...]:
        parts = given.split(",") if isinstance(given, str) else given
        if not isinstance(parts, (tuple, list)):
            raise ValueError
        return tuple(one(part.strip() if isinstance(part, str) else part) for part in parts if part != "")

    return Kind(f"{wanted}, parted by commas", read)


def _yes_no(given: object) -> bool:
    if isinstance(given, bool):
        return given
    if (lower := str(given).lower()) in _YES:
        return True
    if lower in _NO:
        return False
    raise ValueError


def _host(given: object) -> str:
    """The address without brackets."""
    text = str(given)
    if ":" in text:  # 1.2.3.4:80 is no host, nor is a URL
        bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
        return str(ipaddress.IPv6Address(bare))
    return _host_name(text)


def _host_name(given: object) -> str:
    lower = str(given).lower()
    if not _HOST_NAME.fullmatch(lower) or len(lower) > 253:
        raise ValueError
    return lower.removesuffix(".")


def _model(given: object) -> str:
    text = str(given)
    if text not in ("auto", "builtin", "hrn") and not os.path.isdir(text):  # False for what is no path, too
        raise ValueError
    return text


def _device(given: object) -> str:
    if not _DEVICE.fullmatch(str(given)):
        raise ValueError
    return str(given)


def _folder(given: object) -> Path | None:
    if given is None:
        return None
    path = Path(str(given))
    if os.path.exists(path) and not os.path.isdir(path):
        raise ValueError
    return path


def _sub_path(given: object) -> str:
    path = "/" + str(given).strip("/")
    if path == "/":
        return ""
    if not _SUB_PATH.fullmatch(path):
        raise ValueError
    return path


def _network(given: object) -> str:
    return str(ipaddress.ip_network(str(given), strict=False))


def _origin(given: object) -> str:
    lower = str(given).lower().removesuffix("/")
    if not _ORIGIN.fullmatch(lower):
        raise ValueError
    return lower


YES_NO = Kind("yes or no", _yes_no)
HOST = Kind("an IP address or a host's name, without a port", _host)
HOSTS = several("hosts' names or IP addresses without ports, such as faces.example.org", _host)
MODEL = Kind("auto, builtin, hrn, or the folder of a pack, which must be there", _model)
DEVICE = Kind("auto, cpu, cuda, or cuda:1", _device)
FOLDER = Kind("a folder", _folder)
SUB_PATH = Kind("a path of letters, digits and _.~-, such as /faces", _sub_path)
NETWORKS = several("IP addresses or networks, such as 10.0.0.0/8", _network)
ORIGINS = several("origins, such as https://example.org or https://*.example.org", _origin)
