"""Who is next: everybody in turn, first by address, then by visitor, so that many photos of one hold up nobody."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar


@dataclass(frozen=True)
class Caller:
    """Whose photo it is.

    visitor: a browser, a user or a program.
    address: of the machine; the proxies' one where nothing says which are trusted.
    """

    visitor: str = ""
    address: str = ""


NOBODY = Caller()


class Queued(Protocol):
    """number: in the order of coming."""

    @property
    def number(self) -> int: ...
    @property
    def caller(self) -> Caller: ...


Entry = TypeVar("Entry", bound=Queued)


class Turns:
    """Who was served when, as far as he still has photos here."""

    def __init__(self) -> None:
        self._count = 0
        self._last: dict[str | Caller, int] = {}  # of an address, and of a caller

    def served(self, caller: Caller) -> None:
        self._count += 1
        self._last[caller.address] = self._last[caller] = self._count

    def forget_others(self, present: Iterable[Caller]) -> None:
        """Keeps only what concerns these callers."""
        kept: set[str | Caller] = set()
        for caller in present:
            kept |= {caller, caller.address}
        self._last = {key: turn for key, turn in self._last.items() if key in kept}

    def order(self, waiting: Sequence[Entry]) -> list[Entry]:
        """The waiting ones as they will be served, if nobody else comes."""
        by_caller: dict[Caller, list[Entry]] = defaultdict(list)
        for entry in sorted(waiting, key=lambda entry: entry.number):
            by_caller[entry.caller].append(entry)
        by_address: dict[str, list[Sequence[Entry]]] = defaultdict(list)
        for caller in sorted(by_caller, key=lambda caller: self._rank(caller, by_caller[caller])):
            by_address[caller.address].append(by_caller[caller])
        queues = {address: _in_turn(queues) for address, queues in by_address.items()}
        addresses = sorted(queues, key=lambda address: self._rank(address, queues[address]))
        return _in_turn([queues[address] for address in addresses])

    def _rank(self, key: str | Caller, entries: Sequence[Entry]) -> tuple[int, int]:
        """Longest unserved first; among those never served, who came first."""
        return self._last.get(key, 0), min(entry.number for entry in entries)


def _in_turn(queues: Sequence[Sequence[Entry]]) -> list[Entry]:
    """The first of each queue, then the second of each, and so on."""
    longest = max(map(len, queues), default=0)
    return [queue[place] for place in range(longest) for queue in queues if place < len(queue)]
