"""hrn-opt make-token: a secret for one program, and the line that lets it in."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from hrn_opt.cli.terminal import EXIT_MACHINE, run_command, say
from hrn_opt.errors import OptionInvalid
from hrn_opt.program import PROGRAM
from hrn_opt.web.door.access import hash_token, make_token, read_tokens


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} make-token",
        description="Make a program's token: it is shown once, the line after it goes to HRN_OPT_TOKENS.",
    )
    parser.add_argument("name", metavar="NAME")
    name = parser.parse_args(arguments).name
    return run_command(lambda: _print_token(name))


def _print_token(name: str) -> int:
    token = make_token()
    line = f"{name}:{hash_token(token)}"
    if set(name) & set(":,") or list(read_tokens(line).digests) != [name]:
        raise OptionInvalid(f"{name!r} is no name; use one without colons, commas and outer spaces.")
    written = say(token, sys.stdout) and say(line, sys.stdout)
    say("The first line is for the program (Authorization: Bearer ...), the second for HRN_OPT_TOKENS.", sys.stderr)
    return 0 if written else EXIT_MACHINE
