"""hrn-opt hash-password: a user's line for the page, from a password that is typed, or piped, but never an argument."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from getpass import getpass

from hrn_opt.cli.terminal import EXIT_MACHINE, run_command, say
from hrn_opt.errors import OptionInvalid
from hrn_opt.program import PROGRAM
from hrn_opt.web.door.access import hash_password, read_users


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} hash-password", description="Make a user of the page: HRN_OPT_USERS takes the line."
    )
    parser.add_argument("name", metavar="NAME")
    name = parser.parse_args(arguments).name
    return run_command(lambda: _print_line(name))


def _print_line(name: str) -> int:
    password = getpass("Password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip()
    line = f"{name}:{hash_password(password)}"
    if list(read_users(line).hashes) != [name]:
        raise OptionInvalid(f"{name!r} is no name; use one without colons, commas and outer spaces.")
    return 0 if say(line, sys.stdout) else EXIT_MACHINE
