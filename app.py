"""The web page's program: start and end. The page itself is in hrn_opt/web/."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import threading
from contextlib import closing
from pathlib import Path

import gradio as gr
from starlette.middleware import Middleware

from hrn_opt.errors import HrnOptError
from hrn_opt.runtime import keep_freed_memory
from hrn_opt.serving.memory import MemoryLog
from hrn_opt.serving.models import Models
from hrn_opt.serving.worker import Worker
from hrn_opt.web.callbacks import Callbacks
from hrn_opt.web.guard import Guard
from hrn_opt.web.sessions import Sessions, Sweeper
from hrn_opt.web.settings import ServingSettings, read_settings
from hrn_opt.web.style import CSS, theme
from hrn_opt.web.widgets import EXAMPLE_PHOTO, WORDS_IN_BROWSER, build_page


def launch(page: gr.Blocks, settings: ServingSettings, worker: Worker) -> None:
    """Serves in background threads, nothing of it reaching outside."""
    page.queue(default_concurrency_limit=None)  # the worker has the queue: it tells places and frees the machine
    guard = Middleware(Guard, max_body_bytes=settings.max_body_bytes, jobs=lambda: worker.jobs)
    page.launch(
        server_name=settings.host,
        server_port=settings.port,
        prevent_thread_lock=True,
        quiet=True,
        share=False,
        show_error=False,
        ssr_mode=False,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        allowed_paths=[],
        max_file_size=settings.photo_limits.max_bytes,
        app_kwargs={"middleware": [guard]},
        auth=settings.users.allows if settings.users else None,
        theme=theme(),
        css=CSS,
        i18n=WORDS_IN_BROWSER,
    )


def serve(settings: ServingSettings) -> None:
    """Serves until SIGINT or SIGTERM; then every photo and result is deleted."""
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    models = Models(settings.model, EXAMPLE_PHOTO, settings.device, settings.memory, settings.offload_folder)
    worker = Worker(models, settings.worker_limits, MemoryLog(settings.log_memory).photo_done)
    with tempfile.TemporaryDirectory(prefix="hrn_opt_") as folder, closing(worker):
        sessions = Sessions(Path(folder))
        os.environ.update(GRADIO_TEMP_DIR=folder, GRADIO_ANALYTICS_ENABLED="False")
        worker.start()
        page = build_page(Callbacks(worker, models, sessions, settings))
        launch(page, settings, worker)
        sessions.spare_present()
        print(f"Serving on http://{settings.host}:{settings.port} (Ctrl+C stops)", flush=True)
        with closing(Sweeper(sessions, settings.kept_s)):
            stopped.wait()
        page.close()


def main() -> int:
    try:
        settings = read_settings(None, os.environ)
    except HrnOptError as error:
        print(f"app.py: {error}", file=sys.stderr)
        return 2
    keep_freed_memory()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # gradio's own checks at start
    try:
        serve(settings)
    except OSError as error:
        reason = str(error).split(". ")[0]  # what follows in Gradio's message is for programmers
        address = f"{settings.host}:{settings.port}"
        print(f"app.py: cannot serve on {address}: {reason}; try another --port.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
