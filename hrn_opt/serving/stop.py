"""A flag that ends a job from outside, from any thread."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Stop:
    """Raised once, for good."""

    def __init__(self) -> None:
        self._is_set = False
        self._then: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        with self._lock:
            self._is_set, then, self._then = True, self._then, []
        for call in then:
            call()

    def when_set(self, call: Callable[[], None]) -> None:
        """Has this called, in whichever thread raises the flag; at once where it is raised already."""
        with self._lock:
            if not self._is_set:
                self._then.append(call)
                return
        call()
