"""The page served, from its start to its end."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import gradio as gr
from starlette.middleware import Middleware

import hrn_opt
from hrn_opt.serving.memory import MemoryLog
from hrn_opt.serving.models import Models
from hrn_opt.serving.worker import Worker
from hrn_opt.web.callbacks import Callbacks
from hrn_opt.web.guard import Guard
from hrn_opt.web.photos import OpenPhotos
from hrn_opt.web.sessions import Sessions, Sweeper
from hrn_opt.web.settings import ServingSettings
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


def serve(settings: ServingSettings, ready: Callable[[], object]) -> None:
    """Serves until SIGINT or SIGTERM; then every photo and result is deleted. ready: called once the page answers."""
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    models = Models(settings.model, EXAMPLE_PHOTO, settings.device, settings.memory, settings.offload_folder)
    worker = Worker(models, settings.worker_limits, MemoryLog(settings.log_memory).photo_done)
    with tempfile.TemporaryDirectory(prefix="hrn_opt_") as folder, closing(worker):
        sessions = Sessions(Path(folder))
        os.environ.update(GRADIO_TEMP_DIR=folder, GRADIO_ANALYTICS_ENABLED="False")
        worker.start()
        photos = OpenPhotos(partial(hrn_opt.open_photo, limits=settings.photo_limits))
        page = build_page(Callbacks(worker, models, sessions, photos, settings))
        launch(page, settings, worker)
        sessions.spare_present()
        ready()
        with closing(Sweeper(sessions, settings.kept_s)):
            stopped.wait()
        page.close()
