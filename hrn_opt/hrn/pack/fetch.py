"""The published pack fetched and prepared.

The folder of packs (default: $HRN_OPT_HOME, else ~/.cache/hrn_opt) then holds `published`, the pack as downloaded, and
`prepared`, its compact form, which is all that is needed to run. A download that stops goes on where it stopped when
run again; until it is whole it is called `published.partial`.
"""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Callable
from pathlib import Path

from hrn_opt.errors import OutputUnwritable, PackDownloadFailed, PackError, PackForeign, PackIncomplete
from hrn_opt.hrn.pack import published as pack
from hrn_opt.hrn.pack.home import HOME_VARIABLE, PARTIAL, PREPARED, PUBLISHED
from hrn_opt.hrn.pack.layouts import as_published
from hrn_opt.hrn.pack.prepare import Progress, prepare

log = logging.getLogger(__name__)

SOURCE_VARIABLE = "HRN_OPT_PACK_SOURCE"
# What is downloaded, to tell how much is done: the published pack without the depth net.
DOWNLOAD_BYTES = 1_170_000_000
_REVISION_FILE = "revision.txt"  # beside the files as downloaded
_SHOWN_REASON_CHARACTERS = 120
_DISK_ERRORS = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM))


def fetch(source: str | None, home: Path, *, revision: str | None = None, progress: Progress | None = None) -> Path:
    """The prepared pack's folder below `home`, made from a hub's pack or from a folder's.

    source: None for the ModelScope hub, the http(s) address of a mirror, or the folder of a pack already on disk,
    which may lack the files for finding faces.
    revision: of the hub's pack; None for the first of `published.REVISIONS` that is there and is HRN.
    progress: called with what is being done and the fraction 0..1 of the whole that is done.
    """
    tell = progress or (lambda _step, _fraction: None)
    if source is not None and not source.startswith(("http://", "https://")):
        with as_published(Path(source).expanduser()) as folder:
            return prepare(folder, home / PREPARED, progress=tell)
    published = home / PUBLISHED
    on_preparing = _part_of(tell, 0.8, 1.0)
    if published.is_dir():
        try:
            pack.verify(published, whole=True)
            if revision in (None, _revision_in(published)):
                return prepare(published, home / PREPARED, progress=on_preparing)
        except PackError:
            pass
        # Something in it is missing, broken, or of another revision: the hub's own hashes say what to fetch anew.
        _rename(published, home / PARTIAL)
    for number, one in enumerate(last := (revision,) if revision else pack.REVISIONS, 1):
        try:
            _download(source, home / PARTIAL, one, _part_of(tell, 0.0, 0.8))
            pack.verify(home / PARTIAL)
            _remember_revision(home / PARTIAL, one)
            _rename(home / PARTIAL, published)
            return prepare(published, home / PREPARED, progress=on_preparing)
        except (PackDownloadFailed, PackIncomplete, PackForeign) as error:
            if number == len(last) or not _another_may_do(error):
                raise
            log.warning("Revision %s will not do (%s); trying the next", one, error)
            if published.is_dir():
                _rename(published, home / PARTIAL)
    raise AssertionError("the last revision returns or raises")


def _another_may_do(error: PackError) -> bool:
    """Whether another revision may have what this one lacks; a network that fails lacks it for all."""
    from modelscope_hub.errors import NotExistError, NotFoundError

    cause: BaseException | None = error
    while cause is not None:  # the hub's client wraps its own error in one of requests'
        if isinstance(cause, (NotExistError, NotFoundError)):
            return True
        cause = cause.__cause__
    return not isinstance(error, PackDownloadFailed)


def _revision_in(folder: Path) -> str:
    """The hub's revision that the folder was fetched from; "" where nothing says so."""
    try:
        return (folder / _REVISION_FILE).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _remember_revision(folder: Path, revision: str) -> None:
    try:
        (folder / _REVISION_FILE).write_text(f"{revision}\n", encoding="utf-8")
    except OSError as error:
        raise _unwritable(folder, error) from error


def _part_of(tell: Progress, start: float, stop: float) -> Progress:
    """Progress of one part, told as progress of the whole."""
    return lambda step, fraction: tell(step, start + (stop - start) * fraction)


def _rename(old: Path, new: Path) -> None:
    try:
        old.rename(new)
    except OSError as error:
        raise OutputUnwritable(f"{old} cannot be renamed to {new.name} ({error.strerror}); remove {new}.") from error


def _download(endpoint: str | None, folder: Path, revision: str, tell: Progress) -> None:
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
            revision=revision,
            local_dir=str(folder),
            allow_patterns=list(pack.FILES),
            progress_callbacks=[_counting(tell, folder)],
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


def _counting(tell: Progress, folder: Path) -> type:
    """A class of the hub's progress callbacks, made anew for each file, that add up to one fraction.

    folder: what lies there already counts, too.
    """
    there_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    received = _Counter(lambda total: tell("Downloading", min(total / DOWNLOAD_BYTES, 1.0)), there_bytes)

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

    def __init__(self, tell: Callable[[int], None], start: int):
        self._total, self._tell, self._lock = start, tell, threading.Lock()

    def add(self, size: int) -> None:
        with self._lock:
            self._total += size
            self._tell(self._total)
