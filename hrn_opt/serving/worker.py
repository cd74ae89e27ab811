"""One device, one thread (or a few), one job at a time in each.

The event loop is never blocked: models run in the worker's own threads and their events come back over a queue.
Whoever stops reading (cancel, closed tab, error, deadline) raises the job's stop flag; the model looks at it between
stages, so that the machine is free again within one stage.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hrn_opt.errors import DeadlinePassed, OutOfMemory, QueueFull, Stopped
from hrn_opt.runtime import free_unused, ran_out_of_memory
from hrn_opt.serving.models import Model, ModelCache, ModelChoice, ModelProvider
from hrn_opt.types import Face, Photo, StageEvent

log = logging.getLogger(__name__)

ANY_MODEL = ModelChoice()
Given = TypeVar("Given")


@dataclass(frozen=True)
class Waiting:
    """Others are served first. position: 1 is next.

    loading: because a model is being loaded.
    """

    position: int
    loading: bool = False


@dataclass(frozen=True)
class Loading:
    """The job's turn has come, and its model is being loaded."""

    choice: ModelChoice


Event = Waiting | Loading | StageEvent


@dataclass(frozen=True)
class WorkerLimits:
    """concurrency: jobs at once, each thread with models of its own.

    most_jobs: running and waiting together.

    deadline_s: a job's longest time, waiting included; None for no end.
    most_models: loaded at once, a thread.
    """

    concurrency: int = 1
    most_jobs: int = 8
    deadline_s: float | None = None
    most_models: int = 2

    def __post_init__(self) -> None:
        if min(self.concurrency, self.most_jobs, self.most_models) < 1 or (self.deadline_s or 1) <= 0:
            raise ValueError(f"every limit must be above 0, got {self}")


@dataclass(eq=False)
class _Job:
    """work: what is done with the model; it sends events as it goes.
    position: the last one told.
    """

    choice: ModelChoice
    work: Callable[[Model, _Job], None]
    send: Callable[[Any], None]
    stop: threading.Event
    running: bool = False
    position: int = 0
    future: Future[None] = field(default_factory=Future)


class Worker:
    """Runs jobs in turn, with models loaded when a job first asks for them.

    after_photo: called in a worker's thread after each photo.
    """

    def __init__(
        self,
        provider: ModelProvider,
        limits: WorkerLimits = WorkerLimits(),
        after_photo: Callable[[], None] | None = None,
    ):
        self._provider = provider
        self._limits = limits
        self._after_photo = after_photo
        self._jobs: list[_Job] = []
        self._loads = 0  # models being loaded now
        self._lock = threading.Lock()  # of the two above: they change on the event loop and in the worker's threads
        self._own = threading.local()  # .models: the models of the thread
        self._threads = ThreadPoolExecutor(limits.concurrency, thread_name_prefix="hrn-opt-worker")

    @property
    def jobs(self) -> int:
        """Running and waiting jobs, those being stopped included."""
        return len(self._jobs)

    def start(self, choice: ModelChoice = ANY_MODEL) -> tuple[Future[Model], ...]:
        """Begins to load a model in every thread, so that the first photo need not wait; they end when it is ready."""
        futures = tuple(self._threads.submit(self._ready, choice) for _ in range(self._limits.concurrency))
        for future in futures:
            future.add_done_callback(_log_failed_load)
        return futures

    async def stream(
        self, photo: Photo, choice: ModelChoice = ANY_MODEL, stop: threading.Event | None = None, **options: Any
    ) -> AsyncGenerator[Event, None]:
        """The events of `model.stream(photo, **options)`, as they happen, after those of its waiting.

        Raises what the model raises; QueueFull at once, DeadlinePassed, OutOfMemory, and Stopped.
        stop: raise it from anywhere to end the job; leaving the loop raises it too.
        """

        def work(model: Model, job: _Job) -> None:
            for event in model.stream(photo, stop=job.stop, **options):
                job.send(event)
                if job.stop.is_set() and event.reconstruction is None:
                    raise Stopped(f"Stopped after {event.stage.value}.")
            if self._after_photo is not None:
                self._after_photo()

        async with aclosing(self._events(choice, work, stop)) as events:
            async for event in events:
                yield event

    async def find(
        self, photo: Photo, choice: ModelChoice = ANY_MODEL, stop: threading.Event | None = None
    ) -> tuple[Face, ...]:
        """Every face, largest first, in turn with the other jobs; raises as `stream` does.

        Give them to `stream` as `faces`, with the same choice: another model may count faces otherwise.
        """
        found: list[tuple[Face, ...]] = []
        async with aclosing(self._events(choice, lambda model, job: found.append(model.find(photo)), stop)) as events:
            async for _ in events:
                pass
        return found[0]

    def close(self) -> None:
        """Stops every job and waits for the threads to end."""
        with self._lock:
            stops = [job.stop for job in self._jobs]
        for stop in stops:
            stop.set()
        self._threads.shutdown(wait=True, cancel_futures=True)

    async def _events(
        self, choice: ModelChoice, work: Callable[[Model, _Job], None], stop: threading.Event | None
    ) -> AsyncGenerator[Event, None]:
        """What the job sends, until it ends; raises what it raised."""
        stop = stop or threading.Event()
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[Event | None] = asyncio.Queue()

        def send(event: Event | None) -> None:
            try:
                loop.call_soon_threadsafe(events.put_nowait, event)
            except RuntimeError:  # the loop is closed: nobody is left to read
                stop.set()

        deadline_s = self._limits.deadline_s
        until = None if deadline_s is None else loop.time() + deadline_s
        job = self._submit(_Job(self._provider.resolve(choice), work, send, stop))
        job.future.add_done_callback(lambda _: send(None))
        try:
            while (event := await _before(events.get(), until, deadline_s)) is not None:
                yield event
            if job.future.cancelled():
                raise Stopped("Stopped before its turn came.")
            job.future.result()
        finally:
            stop.set()
            job.future.cancel()

    def _submit(self, job: _Job) -> _Job:
        """The job, with its future."""
        with self._lock:
            if len(self._jobs) >= self._limits.most_jobs:
                raise QueueFull(
                    f"{len(self._jobs)} photos are being worked on already; try again in a minute.",
                    most_jobs=self._limits.most_jobs,
                )
            job.future = self._threads.submit(self._run, job)
            self._jobs.append(job)
        job.future.add_done_callback(lambda _: self._forget(job))
        self._tell_positions()
        return job

    def _forget(self, job: _Job) -> None:
        with self._lock:
            self._jobs.remove(job)
        self._tell_positions()

    def _tell_positions(self) -> None:
        """Sends every waiting job its place, where it has changed."""
        with self._lock:
            free = self._limits.concurrency - self._loads - sum(job.running for job in self._jobs)
            waiting = [job for job in self._jobs if not job.running]
            for position, job in enumerate(waiting, start=1 - max(free, 0)):
                if position >= 1 and position != job.position:
                    job.position = position
                    job.send(Waiting(position, loading=self._loads > 0))

    def _run(self, job: _Job) -> None:
        with self._lock:
            job.running = True
        self._tell_positions()
        if job.stop.is_set():
            raise Stopped("Stopped before it began.")
        try:
            job.work(self._ready(job.choice, job), job)
            return
        except Exception as error:
            if not ran_out_of_memory(error):
                raise
            log.error("Memory ran out: %s", error)
        # Outside the except block: the error's traceback holds on to every tensor of the stage that failed.
        free_unused()
        raise OutOfMemory(
            "There is too little memory for this photo; try a smaller texture, or again when fewer photos wait.",
        )

    def _ready(self, choice: ModelChoice, job: _Job | None = None) -> Model:
        """The thread's own model, loaded if need be."""
        if not hasattr(self._own, "models"):
            self._own.models = ModelCache(self._provider.load, self._limits.most_models)
        choice = self._provider.resolve(choice)
        models: ModelCache = self._own.models
        if choice in models:
            return models.model(choice)
        if job is not None:
            job.send(Loading(choice))
        with self._lock:
            self._loads += job is None  # a job's thread is counted as running
        try:
            return models.model(choice)
        finally:
            with self._lock:
                self._loads -= job is None
            self._tell_positions()


async def _before(event: Awaitable[Given], until: float | None, deadline_s: float | None) -> Given:
    """What the awaitable gives; DeadlinePassed when it takes longer than `until`, on the loop's clock."""
    left_s = None if until is None else max(until - asyncio.get_running_loop().time(), 0)
    with suppress(asyncio.TimeoutError):
        return await asyncio.wait_for(event, left_s)
    assert deadline_s is not None  # without one there is no `until`, and waiting has no end
    raise DeadlinePassed(
        f"This photo took longer than {deadline_s:.0f} s and was given up; try again later, or a smaller texture.",
        deadline_s=deadline_s,
    )


def _log_failed_load(loading: Future[Model]) -> None:
    if not loading.cancelled() and (error := loading.exception()) is not None:
        log.error("The model did not load; the next photo tries again: %s", error, exc_info=error)
