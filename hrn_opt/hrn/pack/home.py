"""Where packs live, and what their folders are called. Imports no package, so that the doctor can ask without torch."""

from __future__ import annotations

import os
from pathlib import Path

HOME_VARIABLE = "HRN_OPT_HOME"
PUBLISHED, PARTIAL, PREPARED = "published", "published.partial", "prepared"  # what `hrn-opt fetch` makes there
MANIFEST = "manifest.json"  # of a prepared pack, written last


def default_folder() -> Path:
    """Where packs live unless told otherwise: $HRN_OPT_HOME, else ~/.cache/hrn_opt."""
    named = os.environ.get(HOME_VARIABLE)
    return Path(named).expanduser() if named else Path.home() / ".cache" / "hrn_opt"


def is_prepared(folder: Path) -> bool:
    """Whether a folder looks like a prepared pack."""
    return (folder / MANIFEST).is_file()
