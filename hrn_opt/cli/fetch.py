"""hrn-opt fetch: the HRN model's pack downloaded, or taken from a folder, and prepared."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from hrn_opt.cli.terminal import run_command, say
from hrn_opt.hrn.pack.fetch import SOURCE_VARIABLE, fetch
from hrn_opt.hrn.pack.home import default_folder
from hrn_opt.hrn.pack.prepared import open_prepared
from hrn_opt.hrn.pack.published import REVISIONS
from hrn_opt.program import FETCH


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog=FETCH, description="Download the HRN model pack and prepare it.", allow_abbrev=False
    )
    parser.add_argument(
        "--from",
        dest="source",
        default=os.environ.get(SOURCE_VARIABLE) or None,
        metavar="MIRROR_OR_FOLDER",
        help="a ModelScope mirror's address, or a folder with the pack, in ModelScope's layout or another "
        f"(default: ${SOURCE_VARIABLE}, else the hub)",
    )
    parser.add_argument(
        "--to", type=Path, default=default_folder(), metavar="DIR", help="where packs live (default: %(default)s)"
    )
    parser.add_argument(
        "--revision", metavar="NAME", help=f"of the hub's pack (default: {REVISIONS[0]}, else {REVISIONS[1]})"
    )
    options = parser.parse_args(arguments)
    return run_command(lambda: _fetch(options))


def _fetch(options: argparse.Namespace) -> int:
    prepared = fetch(options.source, options.to, revision=options.revision, progress=_tell)
    say(f"HRN is ready in {prepared}", sys.stdout)
    opened = open_prepared(prepared)
    for path, why in opened.manifest.notes.items():
        say(f"Left out: {path}. {why}", sys.stdout)
    if not opened.has_detectors:
        say("The pack has no detectors: the embedded model finds the landmarks, less exactly.", sys.stdout)
    return 0


def _tell(step: str, fraction: float) -> None:
    if not step.startswith("Downloading"):  # the hub draws its own bars
        say(f"{fraction:4.0%} {step}", sys.stderr)
