"""The queue before the model processes, on the event loop alone.

One job a photo. The loop never computes: it hands paths to processes and passes on what they tell. Whoever stops
reading (cancel, closed tab, error, deadline) has his job stopped; the process looks at that between stages, and one
that does not is replaced.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from hrn_opt.errors import DeadlinePassed, HrnOptError, ProcessDied, QueueFull, ShuttingDown, Stopped
from hrn_opt.serving.fairness import NOBODY, Caller, Turns
from hrn_opt.serving.jobs import Event, FacesFound, FacesMade, Job, Loading, Waiting
from hrn_opt.serving.messages import Do, Failed, Finished, Halt, LoadFailed, Ready, Report, Told
from hrn_opt.serving.pipes import Gone, ProcessPipe
from hrn_opt.serving.setup import ProcessSetup
from hrn_opt.serving.stop import Stop

log = logging.getLogger(__name__)

_RESTART_AFTER_S = (0.0, 1.0, 5.0, 30.0)  # a process that dies again and again is given time


@dataclass(frozen=True)
class WorkerLimits:
    """processes: photos at once, each process with models of its own.

    most_jobs: running and waiting together.
    most_jobs_per_visitor, most_jobs_per_address: of them.
    deadline_s: a job's longest time, waiting included; None for no end.
    unresponsive_s: how long a process may take to stop a job before it is replaced.
    """

    processes: int = 1
    most_jobs: int = 256
    most_jobs_per_visitor: int = 64
    most_jobs_per_address: int = 128
    deadline_s: float | None = None
    unresponsive_s: float = 60.0

    def __post_init__(self) -> None:
        counts = (self.processes, self.most_jobs, self.most_jobs_per_visitor, self.most_jobs_per_address)
        if min(counts) < 1 or min(self.deadline_s or 1, self.unresponsive_s) <= 0:
            raise ValueError(f"every limit must be above 0, got {self}")


@dataclass(eq=False)
class _Entry:
    """One job in the house.

    position: the last one told.
    slot: the process that works on it.
    """

    number: int
    job: Job
    caller: Caller
    events: asyncio.Queue[Event | HrnOptError] = field(default_factory=asyncio.Queue)
    position: int = 0
    slot: _Slot | None = None


@dataclass(eq=False)
class _Slot:
    """One model process and its state.

    loaded: it has told that its model is there, or why not.
    failure: why its model did not load.
    deaths: since it last finished a job.
    """

    pipe: ProcessPipe | None = None
    loaded: bool = False
    failure: HrnOptError | None = None
    entry: _Entry | None = None
    last_photo: object = None
    deaths: int = 0

    @property
    def is_free(self) -> bool:
        return self.pipe is not None and self.loaded and self.entry is None


class Worker:
    """Runs jobs in model processes, everybody's in turn. For one event loop; `start` it there.

    start_process: as ProcessPipe; tests run its work in a thread.
    """

    def __init__(
        self, setup: ProcessSetup, limits: WorkerLimits, start_process: Callable[..., ProcessPipe] = ProcessPipe
    ):
        self._setup = setup
        self._start_process = start_process
        self._limits = limits
        self._slots = [_Slot() for _ in range(limits.processes)]
        self._entries: list[_Entry] = []
        self._turns = Turns()
        self._numbers = itertools.count(1)
        self._closing = False
        self._changed = asyncio.Event()

    @property
    def jobs(self) -> int:
        """Running and waiting jobs, those being stopped included."""
        leaving = [slot.entry for slot in self._slots if slot.entry is not None and slot.entry not in self._entries]
        return len(self._entries) + len(leaving)

    @property
    def waiting(self) -> int:
        return sum(entry.slot is None for entry in self._entries)

    @property
    def pids(self) -> tuple[int, ...]:
        """Of the processes that live."""
        return tuple(slot.pipe.pid for slot in self._slots if slot.pipe is not None)

    @property
    def is_ready(self) -> bool:
        """Whether a model answers."""
        return any(slot.pipe is not None and slot.loaded and slot.failure is None for slot in self._slots)

    @property
    def failure(self) -> HrnOptError | None:
        """Why no model answers, as far as that is known."""
        return next((slot.failure for slot in self._slots if slot.failure is not None), None)

    @property
    def is_full(self) -> bool:
        return len(self._entries) >= self._limits.most_jobs

    @property
    def is_closing(self) -> bool:
        return self._closing

    def start(self) -> None:
        """Starts the processes, which load their models."""
        self._loop = asyncio.get_running_loop()
        for slot in self._slots:
            self._start(slot)

    async def run(self, job: Job, caller: Caller = NOBODY, stop: Stop | None = None) -> AsyncGenerator[Event, None]:
        """What happens to the job, as it does; last its outcome. Leaving the loop stops it, and so does the flag.

        Raises QueueFull and ShuttingDown at once, DeadlinePassed, ProcessDied, Stopped, and what the photo, the model
        and the machine give cause for.
        """
        entry = self._enter(job, caller)
        if stop is not None:
            stop.when_set(lambda: self._from_any_thread(entry.events.put_nowait, Stopped("Stopped.")))
        deadline_s = self._limits.deadline_s
        until = None if deadline_s is None else self._loop.time() + deadline_s
        try:
            while True:
                event = await _before(entry.events, until, deadline_s)
                if isinstance(event, HrnOptError):
                    raise event
                yield event
                if isinstance(event, FacesFound | FacesMade):
                    return
        finally:
            self._leave(entry)

    async def close(self, drain_s: float = 0.0) -> None:
        """Takes no job any more; those at work may end within drain_s, the others end with ShuttingDown."""
        self._closing = True
        for entry in self._entries:
            if entry.slot is None:
                entry.events.put_nowait(_shutting_down())
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._until_idle(), drain_s)
        for entry in self._entries:
            entry.events.put_nowait(_shutting_down())
        for slot in self._slots:
            if slot.pipe is not None and not slot.loaded:
                slot.pipe.kill()  # it would load its model to the end before it listens
        pipes = [slot.pipe for slot in self._slots if slot.pipe is not None]
        await asyncio.gather(*(asyncio.to_thread(pipe.close) for pipe in pipes))

    def kill(self) -> None:
        """Ends what is at work now, in the midst of it; for somebody who waits for `close` no longer."""
        self._closing = True
        for slot in self._slots:
            if slot.pipe is not None:
                slot.pipe.kill()

    async def _until_idle(self) -> None:
        while any(slot.entry is not None for slot in self._slots):
            self._changed.clear()
            await self._changed.wait()

    def _enter(self, job: Job, caller: Caller) -> _Entry:
        if self._closing:
            raise _shutting_down()
        self._check_room("all", self._entries, self._limits.most_jobs)
        by_visitor = [entry for entry in self._entries if entry.caller == caller]
        self._check_room("visitor", by_visitor, self._limits.most_jobs_per_visitor)
        by_address = [entry for entry in self._entries if entry.caller.address == caller.address]
        self._check_room("address", by_address, self._limits.most_jobs_per_address)
        entry = _Entry(next(self._numbers), job, caller)
        self._entries.append(entry)
        self._dispatch()
        return entry

    def _check_room(self, reason: str, entries: list[_Entry], most: int) -> None:
        if len(entries) >= most:
            whose = {"all": "", "visitor": " of yours", "address": " from your address"}[reason]
            raise QueueFull(
                f"{len(entries)} photos{whose} are being worked on already; try again in a minute.",
                most_jobs=most,
                reason=reason,
            )

    def _leave(self, entry: _Entry) -> None:
        """The job's reader has gone; where it is still at work, it is stopped."""
        self._entries.remove(entry)
        slot = entry.slot
        if slot is not None and slot.entry is entry and slot.pipe is not None:
            slot.pipe.send(Halt(entry.number))
            self._loop.call_later(self._limits.unresponsive_s, self._replace_if_stuck, slot, entry)
        self._dispatch()

    def _replace_if_stuck(self, slot: _Slot, entry: _Entry) -> None:
        if slot.entry is entry and slot.pipe is not None:
            log.error("A model process did not stop its job in time; it is replaced")
            slot.pipe.kill()

    def _dispatch(self) -> None:
        """Gives the free processes their next jobs, and tells everybody else his place."""
        order = self._turns.order([entry for entry in self._entries if entry.slot is None])
        free = [] if self._closing else [slot for slot in self._slots if slot.is_free]
        while free and order:
            entry = order.pop(0)
            slot = next((slot for slot in free if slot.last_photo == entry.job.photo), free[0])
            free.remove(slot)
            slot.entry, entry.slot, slot.last_photo = entry, slot, entry.job.photo
            self._turns.served(entry.caller)
            assert slot.pipe is not None
            slot.pipe.send(Do(entry.number, entry.job))
        loading = not any(slot.loaded for slot in self._slots)
        for position, entry in enumerate(order, 1):
            if position != entry.position:
                entry.position = position
                entry.events.put_nowait(Waiting(position, loading))
        self._turns.forget_others(entry.caller for entry in self._entries)
        self._changed.set()

    def _start(self, slot: _Slot) -> None:
        if self._closing:
            return
        slot.loaded, slot.failure, slot.last_photo = False, None, None

        slot.pipe = self._start_process(self._setup, lambda report: self._from_any_thread(self._told, slot, report))

    def _from_any_thread(self, call: Callable[..., None], *values: object) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(call, *values)

    def _told(self, slot: _Slot, report: Report | Gone) -> None:
        if isinstance(report, Gone):
            self._buried(slot)
        elif isinstance(report, Ready | LoadFailed):
            slot.loaded, slot.failure = True, report.error if isinstance(report, LoadFailed) else None
            self._dispatch()
        elif slot.entry is not None and slot.entry.number == report.number:
            self._passed_on(slot, slot.entry, report)

    def _passed_on(self, slot: _Slot, entry: _Entry, report: Told | Finished | Failed) -> None:
        if isinstance(report, Told):
            if not isinstance(report.event, Loading):  # a job is at work with a model
                slot.failure = None
            entry.events.put_nowait(report.event)
            return
        slot.entry, slot.deaths = None, 0
        entry.events.put_nowait(report.outcome if isinstance(report, Finished) else report.error)
        self._dispatch()

    def _buried(self, slot: _Slot) -> None:
        """The process has ended: its job fails, and another one takes its place."""
        if slot.pipe is not None and not self._closing:
            log.error("A model process has ended (exit code %s); it is replaced", slot.pipe.exit_code)
        entry, slot.entry, slot.pipe = slot.entry, None, None
        if entry is not None:
            entry.events.put_nowait(_shutting_down() if self._closing else _given_up())
        wait_s = _RESTART_AFTER_S[min(slot.deaths, len(_RESTART_AFTER_S) - 1)]
        slot.deaths += 1
        self._loop.call_later(wait_s, self._start, slot)
        self._dispatch()


async def _before(
    events: asyncio.Queue[Event | HrnOptError], until: float | None, deadline_s: float | None
) -> Event | HrnOptError:
    """The next event; DeadlinePassed when it takes longer than `until`, on the loop's clock."""
    left_s = None if until is None else max(until - asyncio.get_running_loop().time(), 0)
    with suppress(asyncio.TimeoutError):
        return await asyncio.wait_for(events.get(), left_s)
    assert deadline_s is not None  # without one there is no `until`, and waiting has no end
    raise DeadlinePassed(
        f"This photo took longer than {deadline_s:.0f} s and was given up; try again later, or a smaller texture.",
        deadline_s=deadline_s,
    )


def _given_up() -> ProcessDied:
    return ProcessDied("The machine gave this photo up: memory may have run out. Try again, or a smaller texture.")


def _shutting_down() -> ShuttingDown:
    return ShuttingDown("The server is being stopped; try again in a minute.")
