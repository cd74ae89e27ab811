"""The one folder below which a server keeps everything of its visitors: locked while it lives, deleted when it is dead.

A process that is killed deletes nothing. The system opens its lock, and whichever server sweeps next deletes what lies
there.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from hrn_opt.errors import DiskFull, OutputUnwritable

PREFIX = "hrn_opt_"
NO_ROOM = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EROFS))  # what a full or read-only disk says
_LOCK, _FILES = "lock", "files"
_TRIES = 10


@dataclass(frozen=True)
class PrivateFolder:
    """path: an empty folder, of this process alone and readable by its user alone, until the `with` block ends."""

    path: Path

    @staticmethod
    @contextmanager
    def open(parent: str | os.PathLike[str] | None = None) -> Iterator[PrivateFolder]:
        """parent: where it is made; the system's folder for temporary files unless named."""
        place = _temporary() if parent is None else Path(parent)
        try:
            folder, lock = _locked_folder(place)
            try:
                yield PrivateFolder(folder / _FILES)
            finally:
                _delete(folder)
                os.close(lock)
        except _Unwritable as error:
            raise OutputUnwritable(
                f"The folder {place} cannot hold the visitors' files ({error}); "
                "set TMPDIR to a folder that can be written and has room."
            ) from None


class _Unwritable(Exception):
    """The system's reason why no folder could be made."""


def _temporary() -> Path:
    if wanted := os.environ.get("TMPDIR"):
        return Path(wanted)  # the tempfile module would go on to other folders when it cannot be written
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        return Path("/tmp")


def _locked_folder(parent: Path) -> tuple[Path, int]:
    """A new folder and its held lock. One that a sweeper took between making and locking it is let go."""
    for _ in range(_TRIES):
        try:
            folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
            if (lock := _take_lock(folder, os.O_CREAT)) is not None:
                (folder / _FILES).mkdir(mode=0o700)
                return folder, lock
            shutil.rmtree(folder, ignore_errors=True)
        except OSError as error:
            raise _Unwritable(error.strerror) from None
    raise _Unwritable("other processes take it at once")


def _take_lock(folder: Path, flags: int) -> int | None:
    """The folder's lock, open and held; None when somebody else holds it or has deleted it meanwhile."""
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if os.fstat(place).st_uid != os.getuid():
            return None
        lock = os.open(_LOCK, os.O_RDWR | os.O_NOFOLLOW | flags, 0o600, dir_fd=place)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(lock), os.stat(_LOCK, dir_fd=place, follow_symlinks=False)):
                return lock
        except (BlockingIOError, FileNotFoundError):
            pass
        os.close(lock)
        return None
    finally:
        os.close(place)


def sweep_dead(parent: str | os.PathLike[str] | None = None) -> int:
    """How many folders of dead processes were deleted; those of the living and of other users stay as they are."""
    count = 0
    for folder in (_temporary() if parent is None else Path(parent)).glob(f"{PREFIX}*"):
        with suppress(OSError):  # it has just gone, is a link or no folder, or has no lock and so is not ours
            if (lock := _take_lock(folder, 0)) is None:
                continue
            try:
                count += _delete(folder)
            finally:
                os.close(lock)
    return count


def _delete(folder: Path) -> bool:
    """Whether all of it went; the lock last, so that another sweep can go on where this one is killed."""
    shutil.rmtree(folder / _FILES, ignore_errors=True)
    if (folder / _FILES).exists():
        return False
    shutil.rmtree(folder, ignore_errors=True)
    return True


class Sweep:
    """Tells what has not changed for long, by a clock that nobody sets: files' own times are only compared for change.

    clock: seconds that only ever grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._seen: dict[Path, tuple[int, float]] = {}  # what it looked like, and since when

    def unchanged(self, paths: Iterable[Path], for_s: float) -> set[Path]:
        """Those of the paths that earlier calls saw as they are now, for at least so long; others are forgotten."""
        now_s = self._clock()
        seen = {}
        for path in paths:
            look = _look_of(path)
            old_look, since_s = self._seen.get(path, (None, now_s))
            seen[path] = (look, since_s if look == old_look else now_s)
        self._seen = seen
        return {path for path, (_, since_s) in seen.items() if now_s - since_s >= for_s}


def _look_of(path: Path) -> int:
    """Another number when anything in the file or folder has changed."""
    inside = (os.path.join(folder, name) for folder, folders, files in os.walk(path) for name in (*folders, *files))
    looks = []
    for one in (str(path), *inside):
        with suppress(OSError):
            status = os.lstat(one)
            looks.append((one, status.st_mtime_ns, status.st_size))
    return hash(frozenset(looks))


class Quota:
    """How much may lie below a folder, and whether there is room for more; from any thread.

    most_bytes: of all files together.
    clock: seconds that only ever grow.
    """

    _FRESH_S = 1.0
    _MOST_OF_THE_TIME = 0.02  # for measuring; a folder that takes long to measure is measured less often

    def __init__(self, root: Path, most_bytes: int, clock: Callable[[], float] = time.monotonic):
        self._root = root
        self._most_bytes = most_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._used_bytes, self._measured_again_s = 0, -float("inf")
        self._arrived_bytes = 0  # since the last measurement
        self._promised_bytes = 0  # that uploads have announced and not yet sent

    def check(self, extra_bytes: int = 0) -> None:
        """Raises DiskFull unless so many bytes more have room, here and on the disk."""
        with self._lock:
            self._check(extra_bytes)

    def promise(self, count_bytes: int) -> None:
        """Keeps room for an upload; raises DiskFull where there is none."""
        with self._lock:
            self._check(count_bytes)
            self._promised_bytes += count_bytes

    def arrived(self, count_bytes: int, promised_bytes: int = 0) -> None:
        """Counts part of an upload, of which so much was promised; raises DiskFull when the rest has no room."""
        with self._lock:
            self._promised_bytes -= promised_bytes
            self._arrived_bytes += count_bytes
            if count_bytes > promised_bytes:
                self._check(0)

    def release(self, promised_bytes: int) -> None:
        """Gives up the room of an upload that ended before all of it had come."""
        with self._lock:
            self._promised_bytes -= promised_bytes

    def _check(self, extra_bytes: int) -> None:
        used_bytes = self._measure() + self._arrived_bytes  # in this order: measuring forgets what has arrived
        if used_bytes + self._promised_bytes + extra_bytes > self._most_bytes:
            raise DiskFull(
                f"The visitors' files fill the {self._most_bytes / 1e6:.0f} MB that they may have here; "
                "try again in some minutes, when older ones are deleted.",
                reason="quota",
                most_mb=round(self._most_bytes / 1e6),
            )
        try:
            free_bytes = shutil.disk_usage(self._root).free
        except OSError as error:  # somebody has cleared away the system's folder for temporary files
            raise disk_full() from error
        if free_bytes < self._promised_bytes + extra_bytes:
            raise disk_full()

    def _measure(self) -> int:
        began_s = self._clock()
        if began_s >= self._measured_again_s:
            self._used_bytes, self._arrived_bytes = _size_of(self._root), 0
            ended_s = self._clock()
            self._measured_again_s = ended_s + max(self._FRESH_S, (ended_s - began_s) / self._MOST_OF_THE_TIME)
        return self._used_bytes


def disk_full() -> DiskFull:
    """The error of a disk without room, whoever found it out."""
    return DiskFull("The server's disk is full, or cannot be written; tell whoever runs it.", reason="disk", most_mb=0)


def _size_of(folder: Path) -> int:
    total = 0
    with suppress(OSError), os.scandir(folder) as entries:  # it may go meanwhile
        for entry in entries:
            with suppress(OSError):
                is_folder = entry.is_dir(follow_symlinks=False)
                total += _size_of(Path(entry.path)) if is_folder else entry.stat(follow_symlinks=False).st_size
    return total
