"""Longer and longer waits after wrong passwords."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

_FREE_FAILURES = 5
_FIRST_WAIT_S = 2.0
_FORGOTTEN_S = 3600.0
_MOST_KEYS = 4096


@dataclass(frozen=True)
class _Failures:
    count: int
    last_s: float
    until_s: float


class BackOff:
    """Failures by key, an address or a user's name; each wait is twice the one before. Bounded: the oldest key goes.

    most_wait_s: no wait is longer.
    clock: seconds that only grow.
    """

    def __init__(self, most_wait_s: float, most_keys: int = _MOST_KEYS, clock: Callable[[], float] = time.monotonic):
        self._most_wait_s = most_wait_s
        self._most_keys = most_keys
        self._clock = clock
        self._failures: OrderedDict[str, _Failures] = OrderedDict()

    def __len__(self) -> int:
        return len(self._failures)

    def wait_s(self, key: str) -> float:
        """Seconds until the key may be tried again; 0 for now."""
        return max(self._of(key).until_s - self._clock(), 0.0)

    def count(self, key: str) -> None:
        """One failure more; counted before a password is looked at, so that tries at once are not one try."""
        count, now_s = self._of(key).count + 1, self._clock()
        doublings = count - _FREE_FAILURES
        wait_s = min(_FIRST_WAIT_S * 2.0 ** min(doublings, 32), self._most_wait_s) if doublings >= 0 else 0.0
        self._failures[key] = _Failures(count, now_s, now_s + wait_s)
        self._failures.move_to_end(key)
        while len(self._failures) > self._most_keys:
            self._failures.popitem(last=False)

    def take_back(self, key: str) -> None:
        """Makes the last failure none: the password was right. Those before it stay."""
        before = self._of(key)
        if before.count <= 1:
            self.forget(key)
        else:
            self._failures[key] = _Failures(before.count - 1, before.last_s, 0.0)

    def forget(self, key: str) -> None:
        self._failures.pop(key, None)

    def _of(self, key: str) -> _Failures:
        known = self._failures.get(key)
        if known and known.until_s < self._clock() - _FORGOTTEN_S and known.last_s < self._clock() - _FORGOTTEN_S:
            self.forget(key)
            known = None
        return known or _Failures(0, 0.0, 0.0)
