"""SIGTERM ends a command as Ctrl-C does: what it was about to write is put away, and it ends soon in any case."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

EXIT_TERMINATED = 128 + signal.SIGTERM  # what a shell reports of a process that the signal ended
_LONGEST_S = 1.0  # for putting away; a library's download thread may wait for the network much longer


def end_on_sigterm() -> None:
    """For programs, at their start, before anything slow is imported.

    The first process of a container needs it: the system passes over a signal for which that process has no handler,
    and whoever stops the container waits ten seconds and kills it. The server has a handler of its own later.
    """
    signal.signal(signal.SIGTERM, _end)


def _end(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not interrupt the putting away
    last_resort = threading.Timer(_LONGEST_S, os._exit, (EXIT_TERMINATED,))
    last_resort.daemon = True
    last_resort.start()
    raise SystemExit(EXIT_TERMINATED)
