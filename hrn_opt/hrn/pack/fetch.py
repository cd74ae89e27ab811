"""The published pack fetched and prepared.

The folder of packs (default: $HRN_OPT_HOME, else ~/.cache/hrn_opt) then holds `published`, the pack as downloaded, and
`prepared`, its compact form, which is all that is needed to run. A download that stops goes on where it stopped when
run again; until it is whole it is called `published.partial`.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from pathlib import Path

from hrn_opt.errors import OutputUnwritable, PackDownloadFailed, PackError
from hrn_opt.hrn.pack import published as pack
from hrn_opt.hrn.pack.home import HOME_VARIABLE, PARTIAL, PREPARED, PUBLISHED
from hrn_opt.hrn.pack.prepare import Progress, prepare

SOURCE_VARIABLE = "HRN_OPT_PACK_SOURCE"
# What is downloaded, to tell how much is done: the published pack without the depth net.
DOWNLOAD_BYTES = 1_120_000_000
_SHOWN_REASON_CHARACTERS = 120
_DISK_ERRORS = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM))


def fetch(source: str | None, home: Path, *, progress: Progress | None = None) -> Path:
    """The prepared pack's folder below `home`, made from a hub's pack or from a folder's.

    source: None for the ModelScope hub, the http(s) address of a mirror, or the folder of a pack already on disk,
    which may lack the files for finding faces.
    progress: called with what is being done and the fraction 0..1 of the whole that is done.
    """
    tell = progress or (lambda _step, _fraction: None)
    if source is not None and not source.startswith(("http://", "https://")):
        return prepare(Path(source).expanduser(), home / PREPARED, progress=tell)
    published = home / PUBLISHED
    on_preparing = _part_of(tell, 0.8, 1.0)
    if published.is_dir():
        try:
            pack.verify(published, whole=True)
            return prepare(published, home / PREPARED, progress=on_preparing)
        except PackError:
            # Something in it is missing or broken: the hub's own hashes say what to fetch anew.
            _rename(published, home / PARTIAL)
    _download(source, home / PARTIAL, _part_of(tell, 0.0, 0.8))
    pack.verify(home / PARTIAL)
    _rename(home / PARTIAL, published)
    return prepare(published, home / PREPARED, progress=on_preparing)


def _part_of(tell: Progress, start: float, stop: float) -> Progress:
    """Progress of one part, told as progress of the whole."""
    return lambda step, fraction: tell(step, start + (stop - start) * fraction)


def _rename(old: Path, new: Path) -> None:
    try:
        old.rename(new)
    except OSError as error:
        raise OutputUnwritable(f"{old} cannot be renamed to {new.name} ({error.strerror}); remove {new}.") from error


def _download(endpoint: str | None, folder: Path, tell: Progress) -> None:
    """The pack's files into `folder`; what is there and right is kept, what is half there is completed."""
    # Half a second to import, and its command line must answer --help without it.
    from modelscope.hub.snapshot_download import snapshot_download
    from modelscope_hub.errors import HubError

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error
    try:
        snapshot_download(
            pack.MODEL_ID,
            local_dir=str(folder),
            allow_patterns=list(pack.FILES),
            progress_callbacks=[_counting(tell)],
            endpoint=endpoint,
        )
    # requests' exceptions are OSErrors.
    except (HubError, OSError) as error:
        for cause in _causes(error):
            if isinstance(cause, OSError) and cause.errno in _DISK_ERRORS:
                raise _unwritable(folder, cause) from error
        origin = endpoint or "the ModelScope hub"
        raise PackDownloadFailed(
            f"{pack.MODEL_ID} could not be downloaded from {origin} ({_reason(error)}); check the network and run it "
            f"again, it goes on where it stopped, or give a mirror or a folder with --from (or ${SOURCE_VARIABLE})."
        ) from error


def _unwritable(folder: Path, error: OSError) -> OutputUnwritable:
    return OutputUnwritable(
        f"{folder} cannot be written ({error.strerror}); free {DOWNLOAD_BYTES / 1e9:.1f} GB there, or give another "
        f"folder with --to (or ${HOME_VARIABLE})."
    )


def _causes(error: BaseException) -> list[BaseException]:
    """The error, and those of single files inside it."""
    return [error, *getattr(error, "failed_files", {}).values()]


def _reason(error: BaseException) -> str:
    """The deepest cause that is known, on one line, without the hub's dump of its request."""
    cause = _causes(error)[-1]
    text = " ".join(str(cause).split()).partition(" Request:")[0]
    return f"{type(cause).__name__}: {text[:_SHOWN_REASON_CHARACTERS]}"


def _counting(tell: Progress) -> type:
    """A class of the hub's progress callbacks, made anew for each file, that add up to one fraction."""
    received = _Counter(lambda total: tell("Downloading", min(total / DOWNLOAD_BYTES, 1.0)))

    class Counting:
        def __init__(self, _filename: str, _size: int):
            pass

        def update(self, size: int) -> None:
            received.add(size)

        def end(self) -> None:
            pass

    return Counting


class _Counter:
    """Bytes added up over the hub's threads."""

    def __init__(self, tell: Callable[[int], None]):
        self._total, self._tell, self._lock = 0, tell, threading.Lock()

    def add(self, size: int) -> None:
        with self._lock:
            self._total += size
            self._tell(self._total)
