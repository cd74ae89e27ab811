"""What the commands share: lines on the terminal, a progress bar, and an error as one sentence and an exit code."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from typing import TextIO

from hrn_opt.errors import HrnOptError, InputError
from hrn_opt.program import install_command

EXIT_INPUT, EXIT_MACHINE, EXIT_INTERRUPTED = 2, 1, 130
_BAR_CELLS = 30
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")  # they end lines, or steer the terminal
# Package → the extra of pyproject.toml that brings it.
_EXTRA_OF = {"gradio": "web", "accelerate": "hrn", "modelscope": "hrn", "modelscope_hub": "hrn"}


def run_command(work: Callable[[], int]) -> int:
    """The exit code that `work` returns, or that of the error that ended it, which standard error tells."""
    try:
        return work()
    except KeyboardInterrupt:
        clear_progress()
        return EXIT_INTERRUPTED
    except HrnOptError as error:
        say(f"hrn-opt: {error}", sys.stderr)
        return exit_code(error)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRA_OF:
            raise
        remedy = f"{install_command(_EXTRA_OF[package])} brings it"
        say(f"hrn-opt: This needs the package {package}, which is not installed; {remedy}.", sys.stderr)
        return EXIT_MACHINE


def exit_code(error: HrnOptError) -> int:
    return EXIT_INPUT if isinstance(error, InputError) else EXIT_MACHINE


def say(text: str, stream: TextIO | None) -> bool:
    """A line on the stream, what it cannot show as escapes; whether it could be written.

    Where its reader has gone, the work goes on silently; where it takes no more, as on a full disk, standard error
    says so, once.
    """
    if stream is None:  # closed by the caller's shell
        return True
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        print(_shown(text).encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)
        return True
    except OSError as error:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())  # for the lines to come, and for what Python still writes as it ends
        os.close(nowhere)
        if isinstance(error, BrokenPipeError):
            return True
        reason = (error.strerror or str(error)).lower()
        if stream is not sys.stderr:
            say(f"hrn-opt: Cannot write to standard output ({reason}); send it elsewhere.", sys.stderr)
        return False


def _shown(text: str) -> str:
    """On one line: a file's name may hold a newline, or what clears the screen."""
    return _CONTROLS.sub(lambda control: control[0].encode("unicode_escape").decode(), text)


def show_progress(fraction: float, label: str) -> None:
    if sys.stderr and sys.stderr.isatty():
        bar = "#" * round(fraction * _BAR_CELLS)
        print(f"\r\x1b[K[{bar:<{_BAR_CELLS}}] {_shown(label)}", end="", file=sys.stderr, flush=True)


def clear_progress() -> None:
    if sys.stderr and sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
