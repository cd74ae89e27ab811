"""What of HRN's pack is on this machine: the one owner of that question."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from hrn_opt.errors import HrnOptError
from hrn_opt.hrn.pack.home import PARTIAL, PREPARED, PUBLISHED, default_folder, is_prepared


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
        from hrn_opt.hrn.pack.prepared import open_prepared  # needs torch, which the doctor may find missing

        try:
            whole = open_prepared(home / PREPARED).has_detectors
        except HrnOptError:
            return PackState.DAMAGED
        return PackState.READY if whole else PackState.WITHOUT_DETECTORS
    if (home / PUBLISHED).is_dir():
        return PackState.NOT_PREPARED
    return PackState.FETCHED_IN_PART if (home / PARTIAL).is_dir() else PackState.MISSING
