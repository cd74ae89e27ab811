"""Private folders: what one visitor makes lies under a name nobody can guess, and goes when the visitor goes.

Whoever never says goodbye is cleared away by age.
"""

from __future__ import annotations

import logging
import secrets
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hrn_opt.serving.stop import Stop
from hrn_opt.web.door.owners import Owners
from hrn_opt.web.folders import NO_ROOM, Sweep, disk_full

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """One press of the button.

    folder: where its files go.
    stop: raised to end it, and when it has ended.
    """

    folder: Path
    stop: Stop = field(default_factory=Stop)


class Sessions:
    """The runs and photos of every visitor, by session name; from any thread.

    root: a folder of their own.
    kept_runs: how many of one session's latest ended runs stay on disk.
    download_s: how long each stays at least after its end, so that a download can end: a program may have dozens.
    sweep: tells what is old.
    """

    def __init__(
        self,
        root: Path,
        kept_runs: int = 3,
        download_s: float = 300.0,
        sweep: Sweep | None = None,
        owners: Owners | None = None,
    ):
        self._root = root
        self._owners = owners or Owners(root)
        self._kept_runs = kept_runs
        self._download_s = download_s
        self._sweep = sweep or Sweep()
        self._runs: dict[str, list[Run]] = {}
        self._photos: dict[str, set[Path]] = {}  # folders: of uploads, and of what shows them
        self._spared: frozenset[Path] = frozenset()
        self._lock = threading.Lock()

    def spare_present(self) -> None:
        """Never deletes what lies below the root now, the page's own files such as its examples; all may read them."""
        self._spared = frozenset(self._root.resolve().iterdir())
        self._owners.make_public(self._spared)

    def begin(self, session: str, visitor: str = "") -> Run:
        """A new run with an empty folder of its own; older ones past `kept_runs` go, those at work never."""
        run = Run(self._root / secrets.token_urlsafe(16))
        _make(run.folder)
        self._owners.claim_folder(run.folder.name, visitor)
        with self._lock:
            runs = self._runs.setdefault(session, [])
            ended = [one for one in runs if one.stop.has_been_set_for(self._download_s)]
            leaving = ended[: max(len(ended) - self._kept_runs + 1, 0)]  # the new one will be among the kept
            self._runs[session] = [*(one for one in runs if one not in leaving), run]
        for old in leaving:
            self._end_run(old)
        return run

    def new_folder(self, session: str, visitor: str = "") -> Path:
        """A new empty folder that goes when the session does, and whose files the visitor may read."""
        folder = self._root.resolve() / secrets.token_urlsafe(16)
        _make(folder)
        self._owners.claim_folder(folder.name, visitor)
        with self._lock:
            self._photos.setdefault(session, set()).add(folder)
        return folder

    def holds(self, photo: Path) -> bool:
        """Whether the photo lies in a folder below the root, as every upload does."""
        try:
            return photo.resolve().parent.parent == self._root.resolve()
        except (OSError, ValueError):  # a name that is too long, or holds a null character
            return False

    def track_upload(self, session: str, photo: Path) -> None:
        """Has the upload's folder deleted with the last session that holds it: equal uploads share one."""
        folder = photo.resolve().parent
        if folder.parent == self._root.resolve() and folder not in self._spared:
            with self._lock:
                self._photos.setdefault(session, set()).add(folder)

    def file(self, session: str, folder: str, name: str) -> Path | None:
        """A file that was made in one of the session's folders, wherever below it; None where there is none."""
        with self._lock:
            own = next((path for path in self._photos.get(session, ()) if path.name == folder), None)
        if own is None:
            return None
        try:
            path = (own / name).resolve()
            return path if path.is_relative_to(own) and path.is_file() else None
        except (OSError, ValueError):  # a name that is too long, or holds a null character
            return None

    def drop(self, session: str, folder: Path) -> None:
        """Deletes one of the session's folders now."""
        with self._lock:
            folders = self._photos.get(session, set())
            folders.discard(folder)
            if not folders:
                self._photos.pop(session, None)
        self._delete(folder)

    def end(self, session: str) -> None:
        """Stops the session's runs and deletes what they made and the photos that nobody else holds."""
        with self._lock:
            runs = self._runs.pop(session, [])
            photos = self._photos.pop(session, set()).difference(*self._photos.values())
        for run in runs:
            self._end_run(run)
        for folder in photos:
            self._delete(folder)

    def sweep(self, kept_s: float) -> int:
        """How many folders and files below the root were deleted, as earlier sweeps saw no change for `kept_s`."""
        present = set(self._root.resolve().iterdir()) - self._spared
        stale = self._sweep.unchanged(present, kept_s)
        for path in stale:
            if path.is_dir() and not path.is_symlink():
                self._delete(path)
            else:
                path.unlink(missing_ok=True)
        with self._lock:
            kept = {
                session: [run for run in runs if run.folder.resolve() not in stale]
                for session, runs in self._runs.items()
            }
            self._runs = {session: runs for session, runs in kept.items() if runs}
            photos = {session: set(filter(Path.exists, folders)) for session, folders in self._photos.items()}
            self._photos = {session: folders for session, folders in photos.items() if folders}
        return len(stale)

    def _end_run(self, run: Run) -> None:
        run.stop.set()
        self._delete(run.folder)

    def _delete(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self._owners.forget_folder(folder.name)


class Sweeper:
    """Sweeps the sessions' root every so often until it is closed.

    sweep_others: called each time, too; tells how many folders it deleted, such as those of dead servers.
    """

    def __init__(
        self,
        sessions: Sessions,
        kept_s: float,
        every_s: float | None = None,
        sweep_others: Callable[[], int] = lambda: 0,
    ):
        self._sweep_others = sweep_others
        self._closed = threading.Event()
        every_s = every_s or min(max(kept_s / 10, 1.0), 300.0)
        self._thread = threading.Thread(
            target=self._work, args=(sessions, kept_s, every_s), name="hrn-opt-sweeper", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

    def _work(self, sessions: Sessions, kept_s: float, every_s: float) -> None:
        while not self._closed.wait(every_s):
            try:
                if count := sessions.sweep(kept_s):
                    log.info("Deleted %d folders that were older than %.0f s", count, kept_s)
                if count := self._sweep_others():
                    log.info("Deleted %d folders that ended servers had left", count)
            except OSError as error:  # the next round may succeed
                log.warning("Could not clear away old files: %s", error)


def _make(folder: Path) -> None:
    """Raises DiskFull rather than what the system says."""
    try:
        folder.mkdir(mode=0o700, parents=True)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise disk_full() from error
        raise
