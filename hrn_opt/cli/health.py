"""hrn-opt health: whether the page served here answers. For whatever watches a container: the image's HEALTHCHECK.

It asks where the server really listens: at the --host and --port of the `hrn-opt serve` that runs in this container,
else at HRN_OPT_HOST and HRN_OPT_PORT. Straight there, whatever proxy the environment names. Nothing slow is imported,
since it runs every few seconds.
"""

from __future__ import annotations

import argparse
import http.client
import os
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from hrn_opt.cli.terminal import EXIT_MACHINE, say
from hrn_opt.program import PROGRAM

_ANSWERS_WITHIN_S = 4.0
_PROCESSES = Path("/proc")
_PROGRAM_NAMES = ("hrn-opt", "hrn_opt")  # installed, and as `python -m hrn_opt`
_EVERY_ADDRESS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # to listen on → one of them to ask


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog=f"{PROGRAM} health", description="Ask the page served here whether it lives.", allow_abbrev=False
    )
    _add_address(parser, os.environ)
    served = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    _add_address(served, os.environ)
    parser.set_defaults(**vars(served.parse_known_args(server_arguments(_PROCESSES))[0]))
    options = parser.parse_args(arguments)
    return _ask(options.host, options.port)


def server_arguments(processes: Path) -> list[str]:
    """What follows `hrn-opt serve` in the process of the lowest number that is one; [] if there is none."""
    for folder in sorted(processes.glob("[0-9]*"), key=lambda folder: int(folder.name)):
        words = _words(folder / "cmdline")
        for index, (program, command) in enumerate(pairwise(words)):
            if command == "serve" and Path(program).name in _PROGRAM_NAMES:
                return words[index + 2 :]
    return []


def _words(command_line: Path) -> list[str]:
    try:
        return command_line.read_bytes().decode("utf-8", "replace").split("\0")[:-1]
    except OSError:  # the process has ended
        return []


def _add_address(parser: argparse.ArgumentParser, environment: Mapping[str, str]) -> None:
    default = environment.get("HRN_OPT_HOST", "127.0.0.1")
    parser.add_argument("--host", default=default, help="address that the server listens on (default: where it does)")
    default = environment.get("HRN_OPT_PORT", "8080")
    parser.add_argument("--port", type=int, default=default, help="its port (default: the one that it listens on)")


def _ask(host: str, port: int) -> int:
    host = host.strip("[]")
    connection = http.client.HTTPConnection(_EVERY_ADDRESS.get(host, host), port, timeout=_ANSWERS_WITHIN_S)
    try:
        connection.request("GET", "/healthz")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return _unhealthy(connection, str(error) or type(error).__name__)
    finally:
        connection.close()
    return 0 if status == http.HTTPStatus.OK else _unhealthy(connection, f"it answers {status}")


def _unhealthy(connection: http.client.HTTPConnection, reason: str) -> int:
    say(f"hrn-opt: The page at {connection.host}, port {connection.port}, is not well: {reason}.", sys.stderr)
    return EXIT_MACHINE
