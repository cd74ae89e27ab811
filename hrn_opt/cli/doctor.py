"""hrn-opt doctor: what this machine has, and what to do about what is missing."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict

from hrn_opt.cli.terminal import EXIT_MACHINE
from hrn_opt.doctor import can_run, examine, report_text
from hrn_opt.program import PROGRAM


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} doctor", description="Say what this machine has, and what to do about what is missing."
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    options = parser.parse_args(arguments)
    checks = examine()
    if options.json:
        print(json.dumps({"ready": can_run(checks), "checks": [asdict(check) for check in checks]}, indent=2))
    else:
        print(report_text(checks))
    return 0 if can_run(checks) else EXIT_MACHINE
