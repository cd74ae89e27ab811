"""The page served, from its start to its end: our own server, with Gradio as its guest."""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, cast

import gradio as gr
import uvicorn
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from gradio.server_messages import HeartbeatMessage
from starlette.routing import Mount

import hrn_opt
from hrn_opt.hrn.pack.state import PackState, pack_state
from hrn_opt.machine import free_memory_bytes, usable_cpus
from hrn_opt.options import BUILTIN
from hrn_opt.serving.models import Models
from hrn_opt.serving.setup import OpenerLimits, ProcessSetup
from hrn_opt.serving.worker import Worker, WorkerLimits
from hrn_opt.web.api import faces, mcp, problems
from hrn_opt.web.asgi import App
from hrn_opt.web.door.gate import Gate
from hrn_opt.web.door.guard import Guard
from hrn_opt.web.door.owners import Owners
from hrn_opt.web.door.protocol import BACKLOG, ConnectionLimits, filter_accept_log, protocol
from hrn_opt.web.door.uploads import Uploads
from hrn_opt.web.folders import Quota, sweep_dead
from hrn_opt.web.page.callbacks import Callbacks
from hrn_opt.web.page.forgetting import OpenPages, forget_gone
from hrn_opt.web.page.style import CSS, theme
from hrn_opt.web.page.widgets import EXAMPLE_PHOTO, WORDS_IN_BROWSER, build_page
from hrn_opt.web.runs import Runs
from hrn_opt.web.sessions import Sessions, Sweeper
from hrn_opt.web.settings import ServingSettings
from hrn_opt.web.watch import operations
from hrn_opt.web.watch.logs import RequestLog, set_up_logging
from hrn_opt.web.watch.metrics import Metrics

log = logging.getLogger(__name__)

_LAST_EVENTS_S = 2.0  # for visitors to read how their photos ended
_OTHER_EVENTS = 64
_STATE_SESSIONS = 1000  # visitors whose page's memory is kept
# A model process with its opener, six 12-megapixel photos with the largest texture: 680 MB; 370 MB on small photos.
_PROCESS_BYTES = 700 << 20
_FORGETS_EVERY_S = 5  # what Gradio remembers of those who have gone


def serve(settings: ServingSettings, folder: Path, ready: Callable[[], object]) -> None:
    """Serves until SIGINT or SIGTERM; then photos at work may end, and every photo and result is deleted.

    folder: where everything of visitors lies; GRADIO_TEMP_DIR since before Gradio was imported.
    ready: called once the page answers. Raises OSError where the address cannot be had.
    """
    filter_accept_log()
    with closing(_bound(settings.host, settings.port)) as listening:
        owners = Owners(folder)
        sessions = Sessions(folder, owners=owners)
        worker = Worker(_setup(settings), _limits(settings))
        served = build_app(settings, worker, sessions, owners, folder)
        sessions.spare_present()
        with closing(Sweeper(sessions, settings.kept_s, sweep_others=sweep_dead)):
            _Server(_config(settings, served), served, worker, settings.drain_s, ready).run(sockets=[listening])


def _config(settings: ServingSettings, served: Served) -> uvicorn.Config:
    limits = ConnectionLimits(settings.max_connections, settings.max_connections_per_address)
    limits = limits.fitting_open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    return uvicorn.Config(
        served.asgi,
        callback_notify=served.forget_gone,
        timeout_notify=_FORGETS_EVERY_S,
        http=protocol(limits, settings.trusted_proxies),
        ws="none",
        backlog=BACKLOG,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_keep_alive=limits.idle_s,
        timeout_graceful_shutdown=round(_LAST_EVENTS_S),
    )


@dataclass(frozen=True)
class Served:
    """asgi: the whole application.
    page: what Gradio shows.
    gradio: the application that it is mounted as.
    open_pages: which visitors are there.
    """

    asgi: App
    page: gr.Blocks
    gradio: Any
    open_pages: OpenPages

    async def forget_gone(self) -> None:
        forget_gone(self.page, self.gradio, self.open_pages)


def build_app(settings: ServingSettings, worker: Worker, sessions: Sessions, owners: Owners, folder: Path) -> Served:
    """The application: our routes and the page, and around them the layers that let requests through.

    folder: Gradio's upload folder, too.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        worker.start()
        yield
        await worker.close()

    app = FastAPI(
        title="hrn_opt",
        version=hrn_opt.__version__,
        summary="A photo of a face in, a textured 3D face out.",
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    metrics, quota = Metrics(worker), Quota(folder, round(settings.most_disk_mb * 1e6))
    runs = Runs(worker, metrics, quota)
    faces.add_to(app, runs, sessions)
    if settings.mcp:
        mcp.add_to(app, runs, sessions)
    operations.add_to(app, worker, metrics)
    page = build_page(Callbacks(runs, _models(settings), sessions, settings))
    gradio = _mounted(app, page, settings)
    open_pages = OpenPages(cast(App, app))
    gated = Gate(open_pages, settings.access, owners, settings.secret, bool(settings.embed_in))
    guarded = Guard(
        gated,
        max_body_bytes=settings.max_body_bytes,
        hosts=settings.hosts,
        embed_in=settings.embed_in,
        root_path=settings.root_path,
        uploads=Uploads(folder, quota),
        mcp_body_bytes=settings.mcp_body_bytes,
    )
    return Served(RequestLog(guarded, metrics.request_ended), page, gradio, open_pages)


def _mounted(app: FastAPI, page: gr.Blocks, settings: ServingSettings) -> Any:
    """Gradio's own application, below ours."""
    page.queue(default_concurrency_limit=None)  # the worker has the queue: it tells places and frees the machine
    # Each photo of the page takes a place of Gradio's while it waits for ours, and so does each look for faces.
    page.max_threads = settings.most_jobs + _OTHER_EVENTS
    page.state_session_capacity = _STATE_SESSIONS
    gr.mount_gradio_app(
        app,
        page,
        path="/",
        show_error=False,
        ssr_mode=False,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        allowed_paths=[],
        max_file_size=settings.photo_limits.max_bytes,
        mcp_server=False,  # else a variable of Gradio's would decide; why not: docs/decisions.md
        theme=theme(),
        css=CSS,
        i18n=WORDS_IN_BROWSER,
    )
    page.has_launched = True  # else Gradio would copy whatever file of this machine an input names
    mounted: Any = next(route.app for route in app.routes if isinstance(route, Mount))
    # FastAPI's own answer quotes what was sent, and fails where that is no text.
    mounted.add_exception_handler(RequestValidationError, problems.respond_to_invalid)
    return mounted


class _Server(uvicorn.Server):
    """Ends in order: no new photos, those at work may end, the rest learn that it is over."""

    def __init__(
        self, config: uvicorn.Config, served: Served, worker: Worker, drain_s: float, ready: Callable[[], object]
    ):
        super().__init__(config)
        self._served = served
        self._worker = worker
        self._drain_s = drain_s
        self._ready = ready

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals end the serving, and that was all they were for: uvicorn would raise them again afterwards.

        They stay so to the program's end: another one must not break off the deleting of what visitors left.
        """
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.handle_exit)
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The second signal ends what the first one let go on."""
        if self.should_exit:
            self.force_exit = True
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._worker.kill)
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._worker.close(self._drain_s)
        await self._until_told()
        self._end_streams()
        await super().shutdown(sockets)
        if self.force_exit:  # uvicorn would leave this out, and the log would have a traceback of it
            await self.lifespan.shutdown()

    async def _until_told(self) -> None:
        """Until every visitor's events have been handed out, within reason."""
        queue = self._served.page._queue
        for _ in range(round(_LAST_EVENTS_S / 0.05)):
            if self.force_exit or not (any(queue.active_jobs) or len(queue)):
                return
            await asyncio.sleep(0.05)

    def _end_streams(self) -> None:
        """Gradio's heartbeats and event streams would stay open for good."""
        queue = self._served.page._queue
        self._served.gradio.stop_event.set()
        queue.close()  # type: ignore[no-untyped-call]
        for messages in queue.pending_messages_per_session.values():
            messages.put_nowait(HeartbeatMessage())


def processes_of(settings: ServingSettings) -> int:
    """How many model processes: those that were asked for; else, for the embedded model, one a processor.

    No more than fit the free memory, and at least one. HRN takes all processors for one photo, and much more memory.
    """
    if isinstance(settings.concurrency, int):
        return settings.concurrency
    embedded = settings.model == BUILTIN or (settings.model == "auto" and pack_state() is PackState.MISSING)
    return max(1, min(usable_cpus(), free_memory_bytes() // _PROCESS_BYTES)) if embedded else 1


def _limits(settings: ServingSettings) -> WorkerLimits:
    return WorkerLimits(
        processes_of(settings),
        settings.most_jobs,
        settings.most_jobs_per_visitor,
        settings.most_jobs_per_address,
        settings.deadline_s,
    )


def _models(settings: ServingSettings) -> Models:
    return Models(settings.model, EXAMPLE_PHOTO, settings.device, settings.memory, settings.offload_folder)


def _setup(settings: ServingSettings) -> ProcessSetup:
    begin = partial(set_up_logging, settings.log_level, settings.log_json)
    opener = OpenerLimits(settings.photo_limits)
    return ProcessSetup(_models(settings), opener, log_memory=settings.log_memory, begin=begin)


def _bound(host: str, port: int) -> socket.socket:
    """A listening socket; uvicorn's own way would end the program on an error."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = family == socket.AF_INET6 and host == "::" and socket.has_dualstack_ipv6()
    listening = socket.create_server((host, port), family=family, backlog=BACKLOG, dualstack_ipv6=both)
    # asyncio sets it on sockets whose protocol is named alone; without it an answer's body waits 40 ms for its head to
    # be acknowledged. Connections have it from here.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening
