"""A flag that ends a job from outside, from any thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Stop:
    """Raised once, for good."""

    def __init__(self) -> None:
        self._set_at_s: float | None = None
        self._then: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    def is_set(self) -> bool:
        return self._set_at_s is not None

    def has_been_set_for(self, seconds: float) -> bool:
        """Whether it was raised so long ago."""
        return self._set_at_s is not None and time.monotonic() - self._set_at_s >= seconds

    def set(self) -> None:
        with self._lock:
            then, self._then = self._then, []
            if self._set_at_s is None:
                self._set_at_s = time.monotonic()
        for call in then:
            call()

    def when_set(self, call: Callable[[], None]) -> None:
        """Has this called, in whichever thread raises the flag; at once where it is raised already."""
        with self._lock:
            if self._set_at_s is None:
                self._then.append(call)
                return
        call()
