"""The names of the files that a call of the command line writes: no two alike, and none that somebody else's file has.

What the command line made, it knows from its reports: each lists the files made under its name with their SHA-256, and
ends with one over itself. A file that is listed and unchanged may be replaced, and so may a report that is unchanged;
any other file stays, unless told otherwise.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hrn_opt.errors import OutputTaken
from hrn_opt.output.export import file_endings
from hrn_opt.output.names import safe_stem
from hrn_opt.output.report import as_file

REPORT_ENDING = ".report.json"
_SEAL = "report_sha256"
_FACE_NUMBER = re.compile(r"-face\d+(?=\.|$)")
_MOST_REPORT_BYTES = 10_000_000  # ours have a few thousand; a larger file of that name is not one


def output_stems(sources: Iterable[str], out: Path, formats: tuple[str, ...]) -> list[str]:
    """One output stem a photo; no two photos of a call share a file, and no photo lying in `out` is written over."""
    paths, here = [Path(source) for source in sources], os.path.realpath(out)
    # Not Path.resolve, which raises RuntimeError for a link that leads back to itself.
    taken = {_key(path.name) for path in paths if os.path.dirname(os.path.realpath(path)) == here}
    stems = []
    for path in paths:
        first = stem = safe_stem(path.stem)
        number = 1
        while taken & _keys(stem, formats):
            number += 1
            stem = f"{first}-{number}"
        taken |= _keys(stem, formats)
        stems.append(stem)
    return stems


def check_free(out: Path, stem: str, formats: tuple[str, ...], all_faces: bool) -> None:
    """Refuses a photo, before anything is computed of it, whose files would replace others than those made here."""
    if not out.is_dir():
        return
    listed, report = _listed(out, stem), stem + REPORT_ENDING
    endings = "|".join(re.escape(ending) for ending in file_endings(formats))
    number = r"-face\d+" if all_faces else ""
    ours = re.compile(f"{re.escape(_folded(stem))}((?:{number})(?:{endings})|{re.escape(REPORT_ENDING)})")
    for path in sorted(out.iterdir()):
        name = ours.fullmatch(_folded(path.name))
        if name is None or not os.path.lexists(out / f"{stem}{name[1]}"):  # they differ in case, and do not meet here
            continue
        known = listed is not None if path.name == report else (listed or {}).get(path.name) == digest(path)
        if not known or not path.is_file():
            raise OutputTaken(
                f"{str(path)!r} is there already, and was not made by this command or was changed since; "
                "choose another folder with --out, or replace it with --overwrite."
            )


def made_earlier(out: Path, stem: str) -> dict[str, str]:
    """File name → SHA-256 of what was made under this stem and is still there."""
    return {name: code for name, code in (_listed(out, stem) or {}).items() if (out / name).is_file()}


def sealed(report: dict[str, Any]) -> dict[str, Any]:
    """The report with the SHA-256 of its file as it is without that one."""
    return report | {_SEAL: digest_of(as_file(report))}


def _listed(out: Path, stem: str) -> dict[str, str] | None:
    """What the report of this stem lists; None without a report of ours that is as we wrote it."""
    path = out / f"{stem}{REPORT_ENDING}"
    try:
        if path.stat().st_size > _MOST_REPORT_BYTES:
            return None
        stored = path.read_bytes()
        report = json.loads(stored)
        seal = report.pop(_SEAL)
        if stored != as_file(report | {_SEAL: seal}) or seal != digest_of(as_file(report)):
            return None
        return {str(name): str(code) for name, code in report["made"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):  # none, or somebody's JSON
        return None


def digest(path: Path) -> str | None:
    """SHA-256 of the file; None of a folder, or of what cannot be read."""
    try:
        return digest_of(path.read_bytes()) if path.is_file() else None
    except OSError:
        return None


def digest_of(content: bytes) -> str:
    """SHA-256."""
    return hashlib.sha256(content).hexdigest()


def _keys(stem: str, formats: tuple[str, ...]) -> set[str]:
    return {_key(stem + ending) for ending in (*file_endings(formats), REPORT_ENDING)}


def _key(name: str) -> str:
    """Equal for names that could meet: `a` writes `a-face1` too, and some file systems ignore case and composition."""
    return _FACE_NUMBER.sub("", _folded(name))


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
