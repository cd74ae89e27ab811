"""hrn-opt doctor: what this machine has, and what to do about what is missing."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from hrn_opt.cli.terminal import EXIT_INPUT, EXIT_MACHINE, run_command
from hrn_opt.doctor import can_run, examine, report_text
from hrn_opt.program import PROGRAM


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} doctor", description="Say what this machine has, and what to do about what is missing."
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument(
        "--pack",
        type=Path,
        metavar="DIR",
        help="say of each file of a published HRN pack what it is, and what needs it",
    )
    options = parser.parse_args(arguments)
    if options.pack is not None:
        return run_command(lambda: _examine_pack(options.pack, options.json))
    checks = examine()
    if options.json:
        print(json.dumps({"ready": can_run(checks), "checks": [asdict(check) for check in checks]}, indent=2))
    else:
        print(report_text(checks))
    return 0 if can_run(checks) else EXIT_MACHINE


def _examine_pack(folder: Path, as_json: bool) -> int:
    from hrn_opt.hrn.pack import examine as pack  # with torch, which the doctor may find missing

    findings = pack.examine(folder)
    usable = not any(finding.problem and finding.is_needed for finding in findings)
    if as_json:
        print(json.dumps({"usable": usable, "files": [asdict(finding) for finding in findings]}, indent=2))
    else:
        print(pack.report_text(findings))
    return 0 if usable else EXIT_INPUT
