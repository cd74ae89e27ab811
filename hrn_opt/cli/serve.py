"""hrn-opt serve: the page, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

from hrn_opt.cli.terminal import EXIT_MACHINE, run_command, say
from hrn_opt.web.settings import ServingSettings, read_settings


def main(arguments: Sequence[str]) -> int:
    return run_command(lambda: _serve(read_settings(arguments, os.environ)))


def _serve(settings: ServingSettings) -> int:
    from hrn_opt.runtime import keep_freed_memory
    from hrn_opt.web.server import serve  # with Gradio, which settings and their help do not need

    keep_freed_memory()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # Gradio's own checks at start
    address = f"{settings.host}:{settings.port}"
    try:
        serve(settings, ready=lambda: say(f"Serving on http://{address} (Ctrl+C stops)", sys.stdout))
    except OSError as error:
        reason = str(error).split(". ")[0]  # what follows in Gradio's message is for programmers
        say(f"hrn-opt: Cannot serve on {address}: {reason}; try another --port.", sys.stderr)
        return EXIT_MACHINE
    return 0
