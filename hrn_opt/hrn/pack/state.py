"""What of HRN's pack is on this machine: the one owner of that question."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from hrn_opt.errors import HrnOptError
from hrn_opt.hrn.pack.home import PARTIAL, PREPARED, PUBLISHED, default_folder, is_prepared
from hrn_opt.hrn.pack.manifest import Manifest


class PackState(str, Enum):
    """How far `hrn-opt fetch` has come."""

    READY = "ready"
    WITHOUT_DETECTORS = "without detectors"  # the embedded model finds the landmarks
    DAMAGED = "damaged"
    NOT_PREPARED = "not prepared"
    FETCHED_IN_PART = "fetched in part"
    MISSING = "missing"


def pack_state(home: Path | None = None) -> PackState:
    """The state of the pack in `home`, or where packs live; cheap enough for every page load."""
    home = home or default_folder()
    if is_prepared(home / PREPARED):
        try:
            manifest = Manifest.read(home / PREPARED)
            manifest.check_files(home / PREPARED)
        except HrnOptError:
            return PackState.DAMAGED
        return PackState.READY if manifest.has_detectors else PackState.WITHOUT_DETECTORS
    if (home / PUBLISHED).is_dir():
        return PackState.NOT_PREPARED
    return PackState.FETCHED_IN_PART if (home / PARTIAL).is_dir() else PackState.MISSING
