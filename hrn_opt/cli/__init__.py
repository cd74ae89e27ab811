"""The command line: `hrn-opt COMMAND ...`, one module a command.

A command's module has `main`, which takes the arguments after the command's name and returns the exit code: 0 all
done, 2 a photo or an option could not be used, 1 the machine could not do it, 130 stopped by Ctrl-C, 143 by SIGTERM.
It is imported only when its command is called, so that `--help` and `doctor` need nothing beyond Python.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from hrn_opt import __version__
from hrn_opt.cli.terminal import EXIT_INPUT, say
from hrn_opt.cli.termination import end_on_sigterm
from hrn_opt.program import PROGRAM

# Command → what it does, in one line. Its module is called the same, with _ for -.
COMMANDS = {
    "make": "make a textured 3D face from each photo",
    "serve": "serve the page",
    "fetch": "get the HRN model, 1.1 GB, and prepare it; everything runs without it",
    "doctor": "say what this machine has and what to do about what is missing",
    "health": "ask the page served here whether it lives; for what watches a container",
    "hash-password": "make a user of the page",
    "make-token": "make a token for a program that uses the page",
}
_OF_A_CLONE = ("test", "bench")  # start.sh has them; they need what an installed package and an image lack


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code of the command that the arguments name; without any, those that the program was called with."""
    if arguments is None:
        end_on_sigterm()
        arguments = sys.argv[1:]
    if arguments and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
        return _unknown(arguments[0])
    command = _parser().parse_args(arguments[:1]).command
    code: int = import_module(f"hrn_opt.cli.{command.replace('-', '_')}").main(arguments[1:])
    return code


def _unknown(command: str) -> int:
    *others, last = COMMANDS
    there_are = f'There is no command "{command}" here; there are {", ".join(others)} and {last}.'
    hint = " It needs a clone of the repository, where start.sh runs it." if command in _OF_A_CLONE else ""
    say(f"hrn-opt: {there_are}{hint}", sys.stderr)
    return EXIT_INPUT


def _parser() -> argparse.ArgumentParser:
    """Of the command's name; what follows it is for the command's own parser."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description="A photo of a face in, a textured 3D face out.", epilog="COMMAND --help says more."
    )
    parser.add_argument("--version", action="version", version=f"hrn-opt {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, what_it_does in COMMANDS.items():
        commands.add_parser(name, help=what_it_does, add_help=False)
    return parser
