"""Private folders: what one visitor makes lies under a name nobody can guess, and goes when the visitor goes."""

from __future__ import annotations

import secrets
import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Run:
    """One press of the button: where its files go, and how it is stopped."""

    folder: Path
    stop: threading.Event = field(default_factory=threading.Event)


class Sessions:
    """The runs of every visitor, by session name. Used from the event loop only.

    kept_runs: how many of one session's latest runs stay on disk, so that a download just begun can end.
    """

    def __init__(self, root: Path, kept_runs: int = 3):
        self._root = root
        self._kept_runs = kept_runs
        self._runs: dict[str, list[Run]] = {}

    def begin(self, session: str) -> Run:
        """A new run with an empty folder of its own; the oldest one past `kept_runs` goes."""
        run = Run(self._root / secrets.token_urlsafe(16))
        run.folder.mkdir(mode=0o700, parents=True)
        runs = self._runs.setdefault(session, [])
        runs.append(run)
        while len(runs) > self._kept_runs:
            _end_run(runs.pop(0))
        return run

    def end(self, session: str) -> None:
        """Stops the session's runs and deletes what they made."""
        for run in self._runs.pop(session, []):
            _end_run(run)


def _end_run(run: Run) -> None:
    run.stop.set()
    shutil.rmtree(run.folder, ignore_errors=True)
