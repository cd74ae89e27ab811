"""The server's end of a model process: it starts it, sends orders, and passes on what it reports."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection

from hrn_opt.serving.children import end_with_parent, start_child
from hrn_opt.serving.messages import Halt, Order, Report
from hrn_opt.serving.setup import ProcessSetup

_ENDS_WITHIN_S = 5.0


@dataclass(frozen=True)
class Gone:
    """The process has ended."""


class ProcessPipe:
    """A model process that has just been started.

    tell: called in a thread of its own with each report, last with Gone.
    """

    def __init__(self, setup: ProcessSetup, tell: Callable[[Report | Gone], None]):
        self._connection, other = Pipe()
        self._process = start_child(_main, (other, setup), "hrn-opt-model")
        other.close()
        self._tell = tell
        self._reader = threading.Thread(target=self._read, name="hrn-opt-reports", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None  # as it has been started
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        return self._process.exitcode

    def send(self, order: Order) -> None:
        with suppress(OSError):  # it has ended, and its last report says so
            self._connection.send(order)

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        """Has it end, and waits until it has; one that does not is killed."""
        self.send(Halt())
        self._process.join(_ENDS_WITHIN_S)
        self._process.kill()
        self._reader.join()

    def _read(self) -> None:
        with suppress(EOFError, OSError):
            while True:
                self._tell(self._connection.recv())
        self._process.join()
        self._connection.close()
        self._tell(Gone())


def _main(connection: Connection, setup: ProcessSetup) -> None:
    end_with_parent()
    from hrn_opt.serving.process import main  # with torch, which the server does without

    main(connection, setup)
