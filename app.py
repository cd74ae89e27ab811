"""The web page: widgets and callbacks. Everything else lives in hrn_opt."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

import hrn_opt
from hrn_opt.errors import HrnOptError, PhotoMissing, Stopped
from hrn_opt.pipeline import DEFAULT_TEXTURE_SIZE
from hrn_opt.runtime import keep_freed_memory
from hrn_opt.serving.downloads import Downloads, write_downloads
from hrn_opt.serving.guard import Guard
from hrn_opt.serving.memory import MemoryLog
from hrn_opt.serving.models import Models
from hrn_opt.serving.sessions import Janitor, Run, Sessions
from hrn_opt.serving.settings import ServingSettings, read_settings
from hrn_opt.serving.worker import Event, Loading, Waiting, Worker
from hrn_opt.types import Stage, StageEvent

log = logging.getLogger("hrn_opt.app")

EXAMPLE_PHOTO = Path(__file__).parent / "examples" / "astronaut.jpg"
TEXTURE_SIZES = (512, 1024, 2048, 4096)
RESULT_HEIGHT_PX = 420

STAGE_NAMES = {
    Stage.FIND: "Find the face",
    Stage.ALIGN: "Place the landmarks",
    Stage.SHAPE: "Shape the head",
    Stage.DETAIL: "Carve the details",
    Stage.TEXTURE: "Unwrap the skin",
    Stage.FINISH: "Finish the mesh",
}

INTRODUCTION = """# Photo to 3D face
Give one photo of a face; get back a textured 3D face. Nothing leaves this machine.
"""

FONT = ["system-ui", "sans-serif"]  # the visitor's own: nothing to download

CSS = """
.gradio-container { width: 100%; max-width: 1280px !important; margin: 0 auto !important; }
.stages { min-height: 1.5rem; }
.bar { height: 6px; border-radius: 3px; background: var(--border-color-primary); overflow: hidden; }
.bar > i { display: block; height: 100%; background: var(--color-accent); transition: width .2s; }
.note { margin: .5rem 0; color: var(--body-text-color); }
.note.failed { color: var(--error-text-color); font-weight: 600; }
.stages { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin: 0; padding: 0; list-style: none;
  color: var(--body-text-color-subdued); font-variant-numeric: tabular-nums; }
.stages li::before { content: "✓ "; color: var(--color-accent); }
"""


@dataclass(frozen=True)
class Callbacks:
    """What happens on the page; the widgets are in build_page."""

    worker: Worker
    sessions: Sessions
    settings: ServingSettings

    async def create(
        self, photo_path: str | None, texture_size: int, request: gr.Request
    ) -> AsyncIterator[tuple[Any, ...]]:
        """Progress as it happens, then the results: progress, Cancel, texture, downloads, path of the GLB."""
        run = self.sessions.begin(request.session_hash or "")
        events: list[StageEvent] = []
        try:
            yield show_empty(progress("Opening the photo …", events))
            if photo_path is None:
                raise PhotoMissing(
                    "There is no photo yet; drop one on the left, paste one, or use the camera.",
                    photo="",
                    reason="not given",
                )
            async for event in self._events(request.session_hash or "", photo_path, texture_size, run):
                if isinstance(event, StageEvent):
                    events.append(event)
                yield show_working(progress(note_of(event), events))
            reconstruction = events[-1].reconstruction
            downloads = await asyncio.to_thread(write_downloads, reconstruction, run.folder)
            yield show_downloads(progress(f"Done in {reconstruction.seconds:.2f} s.", events), downloads)
        except Stopped:
            yield show_ended(progress("Stopped.", events))
        except HrnOptError as error:
            yield show_ended(progress(str(error), events, failed=True))
            raise gr.Error(escape(str(error)), title="That did not work", print_exception=False) from error
        except Exception as error:
            log.exception("A photo failed")
            sentence = "Something went wrong here; the server's log says what. Try another photo."
            yield show_ended(progress(sentence, events, failed=True))
            raise gr.Error(sentence, title="That did not work", print_exception=False) from error
        finally:
            run.stop.set()

    async def _events(self, session: str, photo_path: str, texture_size: int, run: Run) -> AsyncIterator[Event]:
        self.sessions.hold(session, Path(photo_path))
        photo = await asyncio.to_thread(hrn_opt.open_photo, photo_path, limits=self.settings.photo_limits)
        stream = self.worker.stream(photo, stop=run.stop, face=0, want="mesh", texture_size=texture_size)
        try:
            async for event in stream:
                yield event
        finally:
            await stream.aclose()

    def leave(self, request: gr.Request) -> None:
        self.sessions.end(request.session_hash or "")


def note_of(event: Event) -> str:
    """What is going on, in one sentence."""
    if isinstance(event, Waiting):
        return "Loading the model …" if event.loading else f"Waiting: place {event.position} in the queue …"
    return "Loading the model …" if isinstance(event, Loading) else "Working …"


def progress(note: str, events: Sequence[StageEvent], failed: bool = False) -> str:
    """HTML of the bar, one sentence, and the stages that have ended with their seconds."""
    percent = round(100 * events[-1].fraction) if events else 0
    stages = "".join(f"<li>{STAGE_NAMES[e.stage]} {e.seconds:.2f} s</li>" for e in events if e.fraction > 0)
    return (
        f'<div class="bar"><i style="width:{percent}%"></i></div>'
        f'<p class="note{" failed" if failed else ""}" role="status">{escape(note)}</p><ul class="stages">{stages}</ul>'
    )


def show_working(progress_html: str) -> tuple[Any, ...]:
    """Values for what `create` fills; the results stay as they are, and Cancel can be pressed."""
    return progress_html, gr.Button(interactive=True), *[gr.skip()] * 5


def show_ended(progress_html: str) -> tuple[Any, ...]:
    return progress_html, gr.Button(interactive=False), *[gr.skip()] * 5


def show_empty(progress_html: str) -> tuple[Any, ...]:
    no_file = gr.DownloadButton(value=None, interactive=False)
    return progress_html, gr.Button(interactive=True), None, *[no_file] * 3, None


def show_downloads(progress_html: str, downloads: Downloads) -> tuple[Any, ...]:
    files = (downloads.texture, downloads.scene, downloads.obj_zip)
    buttons = [gr.DownloadButton(value=str(path), interactive=True) for path in files]
    return progress_html, gr.Button(interactive=False), str(downloads.texture), *buttons, str(downloads.scene)


@dataclass(frozen=True)
class Widgets:
    """Everything on the page that a callback reads or fills."""

    photo: gr.Image
    texture_size: gr.Radio
    create: gr.Button
    cancel: gr.Button
    progress: gr.HTML
    scene: gr.Model3D
    texture: gr.Image
    get_texture: gr.DownloadButton
    get_scene: gr.DownloadButton
    get_obj: gr.DownloadButton


def build_page(callbacks: Callbacks) -> gr.Blocks:
    """The page: what is asked for on the left, what comes back on the right."""
    with gr.Blocks(
        title="Photo to 3D face", analytics_enabled=False, delete_cache=(600, round(callbacks.settings.kept_s))
    ) as page:
        gr.Markdown(INTRODUCTION)
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                inputs = _inputs()
            with gr.Column(scale=3, min_width=300):
                outputs = _outputs()
        _connect(callbacks, Widgets(**inputs, **outputs))
        page.unload(callbacks.leave)
    return page


def _inputs() -> dict[str, gr.blocks.Block]:
    photo = gr.Image(
        sources=["upload", "webcam", "clipboard"], type="filepath", label="Photo", height=360, elem_id="photo"
    )
    # Gradio would decode the upload itself, before its size is known, and say little about what is no picture.
    photo.preprocess = lambda upload: upload.path if upload else None
    texture_size = gr.Radio(TEXTURE_SIZES, value=DEFAULT_TEXTURE_SIZE, label="Texture size (pixels)")
    with gr.Row():
        create = gr.Button("Create", variant="primary", scale=2, min_width=100)
        cancel = gr.Button("Cancel", interactive=False, scale=1, min_width=80)
    gr.Examples([str(EXAMPLE_PHOTO)], photo, label="Try this one")
    return {"photo": photo, "texture_size": texture_size, "create": create, "cancel": cancel}


def _outputs() -> dict[str, gr.blocks.Block]:
    widgets: dict[str, gr.blocks.Block] = {"progress": gr.HTML(progress("The result appears here.", ()))}
    with gr.Row():
        widgets["scene"] = gr.Model3D(
            label="3D face", camera_position=(None, None, None), height=RESULT_HEIGHT_PX, elem_id="scene"
        )
        widgets["texture"] = gr.Image(
            label="Texture",
            format="png",
            height=RESULT_HEIGHT_PX,
            interactive=False,
            buttons=["fullscreen"],
            elem_id="texture",
        )
    with gr.Row():
        for name, label in (("get_texture", "Texture"), ("get_scene", "GLB"), ("get_obj", "OBJ")):
            widgets[name] = gr.DownloadButton(label, interactive=False, min_width=90)
    return widgets


def _connect(callbacks: Callbacks, page: Widgets) -> None:
    at_once: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "queue": False}
    page.create.click(  # Cancel works while the photo waits, too
        lambda: (gr.Button(interactive=True), None), None, [page.cancel, page.scene], **at_once
    )
    scene_path = gr.State()
    creating = page.create.click(
        callbacks.create,
        [page.photo, page.texture_size],
        [page.progress, page.cancel, page.texture, page.get_texture, page.get_scene, page.get_obj, scene_path],
        api_name="create",
        concurrency_limit=None,
        show_progress="hidden",
        scroll_to_output=True,
    )
    # Not by `create` itself: a generator's last values are sent twice, and the second time makes the viewer of
    # gradio 6.31 drop the code it has just begun to load, so that the first face would never show.
    creating.success(lambda path: path, scene_path, page.scene, **at_once)
    page.cancel.click(
        lambda: (progress("Stopped.", ()), gr.Button(interactive=False)),
        None,
        [page.progress, page.cancel],
        cancels=[creating],
        **at_once,
    )


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
        theme=gr.themes.Soft(primary_hue="teal", neutral_hue="slate", font=FONT, font_mono=["monospace"]),
        css=CSS,
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
        page = build_page(Callbacks(worker, sessions, settings))
        launch(page, settings, worker)
        sessions.spare_present()
        print(f"Serving on http://{settings.host}:{settings.port} (Ctrl+C stops)", flush=True)
        with closing(Janitor(sessions, settings.kept_s)):
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
