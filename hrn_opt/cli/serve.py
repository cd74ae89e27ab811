"""hrn-opt serve: the page, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence

from hrn_opt.cli.terminal import EXIT_MACHINE, run_command, say
from hrn_opt.web.folders import PrivateFolder, sweep_dead
from hrn_opt.web.settings import ServingSettings, read_settings
from hrn_opt.web.watch.logs import set_up_logging

# Gradio would keep the last 10,000 runs, and make a pandas table of all of them after each; its page for that is off.
_NO_STATISTICS = {"GRADIO_ANALYTICS_MAX_EVENTS": "1", "GRADIO_ANALYTICS_CACHE_FREQUENCY": str(1 << 62)}


def main(arguments: Sequence[str]) -> int:
    return run_command(lambda: _serve(read_settings(arguments, os.environ)))


def _serve(settings: ServingSettings) -> int:
    set_up_logging(settings.log_level, settings.log_json)
    sweep_dead()
    with PrivateFolder.open() as folder:
        # Gradio reads these when it is imported; whatever else is written for a while belongs there, too.
        os.environ.update(GRADIO_TEMP_DIR=str(folder.path), GRADIO_ANALYTICS_ENABLED="False", **_NO_STATISTICS)
        tempfile.tempdir = str(folder.path)
        from hrn_opt.web.server import serve  # with Gradio, which settings and their help do not need

        try:
            serve(settings, folder.path, ready=lambda: say(f"Serving on {settings.url} (Ctrl+C stops)", sys.stdout))
        except OSError as error:
            reason = error.strerror or str(error)
            say(f"hrn-opt: Cannot serve on {settings.url}: {reason}; try another --port.", sys.stderr)
            return EXIT_MACHINE
    return 0
