"""One device, one thread, one job at a time.

The event loop is never blocked: the model runs in the worker's own thread and its events come back over a queue.
Whoever stops reading (cancel, closed tab, error) raises the job's stop flag; the model looks at it between stages,
so that the machine is free again within one stage.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from hrn_opt.errors import HrnOptError, Stopped
from hrn_opt.types import Photo, StageEvent

log = logging.getLogger(__name__)


class Busy(HrnOptError):
    """More photos are waiting than the worker takes."""


class Model(Protocol):
    """What a worker needs of a model."""

    def stream(self, photo: Photo, *, stop: threading.Event, **options: Any) -> Iterator[StageEvent]: ...


class Worker:
    """Runs one model's jobs in turn.

    load: makes the model, warmed up; called once, in the worker's thread, again only after a failure.
    most_jobs: running and waiting together; one more raises Busy.
    """

    def __init__(self, load: Callable[[], Model], most_jobs: int = 8):
        self._load = load
        self._most_jobs = most_jobs
        self._model: Model | None = None
        self._jobs: dict[Future, threading.Event] = {}
        self._jobs_lock = threading.Lock()  # jobs are added on the event loop and taken off in the worker's thread
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="hrn-opt-worker")

    @property
    def jobs(self) -> int:
        """Running and waiting jobs, those being stopped included."""
        return len(self._jobs)

    def start(self) -> Future:
        """Begins to load the model, so that the first photo need not wait; the future ends when it is ready."""
        future = self._thread.submit(self._ready_model)
        future.add_done_callback(_log_failed_load)
        return future

    async def stream(
        self, photo: Photo, stop: threading.Event | None = None, **options: Any
    ) -> AsyncIterator[StageEvent]:
        """The events of `model.stream(photo, **options)`, as they happen; raises what it raises.

        stop: raise it from anywhere to end the job; leaving the loop raises it too.
        """
        stop = stop or threading.Event()
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[StageEvent | None] = asyncio.Queue()

        def send(event: StageEvent | None) -> None:
            try:
                loop.call_soon_threadsafe(events.put_nowait, event)
            except RuntimeError:  # the loop is closed: nobody is left to read
                stop.set()

        job = self._submit(photo, options, stop, send)
        job.add_done_callback(lambda _: send(None))
        try:
            while (event := await events.get()) is not None:
                yield event
            if job.cancelled():
                raise Stopped("Stopped before its turn came.")
            job.result()
        finally:
            stop.set()
            job.cancel()

    def close(self) -> None:
        """Stops every job and waits for the thread to end."""
        with self._jobs_lock:
            stops = list(self._jobs.values())
        for stop in stops:
            stop.set()
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _submit(
        self, photo: Photo, options: dict[str, Any], stop: threading.Event, send: Callable[[StageEvent], None]
    ) -> Future:
        with self._jobs_lock:
            if len(self._jobs) >= self._most_jobs:
                raise Busy(f"{len(self._jobs)} photos are being worked on already; try again in a minute.")
            job = self._thread.submit(self._run, photo, options, stop, send)
            self._jobs[job] = stop
        job.add_done_callback(self._forget)
        return job

    def _forget(self, job: Future) -> None:
        with self._jobs_lock:
            del self._jobs[job]

    def _run(
        self, photo: Photo, options: dict[str, Any], stop: threading.Event, send: Callable[[StageEvent], None]
    ) -> None:
        if stop.is_set():
            raise Stopped("Stopped before it began.")
        for event in self._ready_model().stream(photo, stop=stop, **options):
            send(event)
            if stop.is_set() and event.reconstruction is None:
                raise Stopped(f"Stopped after {event.stage.value}.")

    def _ready_model(self) -> Model:
        if self._model is None:
            self._model = self._load()
        return self._model


def _log_failed_load(loading: Future) -> None:
    if not loading.cancelled() and (error := loading.exception()) is not None:
        log.error("The model did not load; the next photo tries again: %s", error, exc_info=error)
