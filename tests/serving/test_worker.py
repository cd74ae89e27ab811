"""The worker with a model of our own making: order, cancel, limits, errors, and an event loop that stays awake."""

import asyncio
import threading
import time

import numpy as np
import pytest
import torch

from hrn_opt.errors import DeadlinePassed, NoFaceFound, OutOfMemory, QueueFull, Stopped
from hrn_opt.serving.models import ModelChoice
from hrn_opt.serving.worker import Loading, Waiting, Worker, WorkerLimits
from hrn_opt.types import Box, Face, Photo, Stage, StageEvent

GIVES_UP_AFTER_S = 60  # what hangs; nothing here is a matter of speed
PHOTO = Photo(np.zeros((4, 6, 3), np.uint8))

FACE = Face(Box(0, 0, 9, 9), torch.zeros(5, 2), 0.5)
LIMITS = WorkerLimits()


class Source:
    """Gives the same model whatever the choice, "auto" being "builtin"; remembers what was loaded."""

    def __init__(self, model):
        self.model, self.loaded = model, []

    def resolve(self, choice):
        return ModelChoice("builtin" if choice.name == "auto" else choice.name, choice.precision)

    def load(self, choice):
        self.loaded.append(choice)
        return self.model


class StepModel:
    """Five stages; remembers how many ran, and how many photos at once. held: each stage waits until it is let go."""

    def __init__(self, held=False, error=None):
        self.error = error
        self.stages_run = self.running = self.most_at_once = 0
        self.calls = []
        self._allowed = threading.Semaphore(0 if held else 1000)

    def let(self, stages=1000):
        self._allowed.release(stages)

    def find(self, photo):
        self.calls.append(("find", self.stages_run))
        if self.error:
            raise self.error
        return (FACE,)

    def stream(self, photo, *, stop, **options):
        self.calls.append(("stream", self.stages_run))
        self.running += 1
        self.most_at_once = max(self.most_at_once, self.running)
        try:
            for index, stage in enumerate(list(Stage)[:5]):
                if stop.is_set():
                    raise Stopped("Stopped.")
                assert self._allowed.acquire(timeout=GIVES_UP_AFTER_S)
                time.sleep(0.002)  # so that what should not be at once would meet
                self.stages_run += 1
                yield StageEvent(stage, (index + 1) / 5, 0.002)
            if self.error:
                raise self.error
        finally:
            self.running -= 1


@pytest.fixture
def serve():
    """Runs a coroutine function with a worker over the given model; the worker is closed at the end."""
    workers = []

    def run(model, work, **limits):
        workers.append(Worker(Source(model), WorkerLimits(**limits)))
        return asyncio.run(asyncio.wait_for(work(workers[-1]), timeout=GIVES_UP_AFTER_S))

    yield run
    for worker in workers:
        worker.close()


async def until(condition):
    while not condition():
        await asyncio.sleep(0.002)


async def read(worker):
    return [event.stage async for event in worker.stream(PHOTO) if isinstance(event, StageEvent)]


def test_events_come_in_order(serve):
    assert serve(StepModel(), read) == list(Stage)[:5]


def test_events_come_as_they_happen(serve):
    model = StepModel(held=True)

    async def first(worker):
        events = worker.stream(PHOTO)
        model.let(1)
        assert await anext(events) == Loading(ModelChoice("builtin"))
        event = await anext(events)
        stages_run = model.stages_run
        model.let()
        await events.aclose()
        return event.stage, stages_run

    assert serve(model, first) == (next(iter(Stage)), 1)


def test_two_jobs_are_never_at_once(serve):
    model = StepModel()

    async def three(worker):
        return await asyncio.gather(*(read(worker) for _ in range(3)))

    assert all(stages == list(Stage)[:5] for stages in serve(model, three))
    assert (model.most_at_once, model.stages_run) == (1, 15)


def test_cancel_frees_the_machine_within_one_stage(serve):
    model = StepModel(held=True)

    async def cancel_then_run(worker):
        task = asyncio.create_task(read(worker))
        model.let(1)
        await until(lambda: model.stages_run == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        model.let()
        await read(worker)

    serve(model, cancel_then_run)
    assert model.stages_run <= 2 + 5  # at most one more of the first job, then those of the second
    assert model.most_at_once == 1


def test_leaving_the_loop_stops_the_job(serve):
    model = StepModel(held=True)

    async def leave(worker):
        events = worker.stream(PHOTO)
        model.let(1)
        await anext(events)
        await events.aclose()
        model.let()
        await until(lambda: not worker.jobs)

    serve(model, leave)
    assert model.stages_run <= 2 and model.running == 0


def test_stop_flag_ends_the_stream_with_stopped(serve):
    model = StepModel(held=True)

    async def stopped(worker):
        stop = threading.Event()
        model.let(1)
        async for event in worker.stream(PHOTO, stop=stop):
            if isinstance(event, StageEvent):
                stop.set()
                model.let()

    with pytest.raises(Stopped):
        serve(model, stopped)


def test_cancelled_while_waiting_never_runs(serve):
    model = StepModel(held=True)

    async def cancel_second(worker):
        first = asyncio.create_task(read(worker))
        await until(lambda: model.running)
        second = asyncio.create_task(read(worker))
        await until(lambda: worker.jobs == 2)
        second.cancel()
        await until(lambda: worker.jobs == 1)
        model.let()
        await first
        await until(lambda: not worker.jobs)

    serve(model, cancel_second)
    assert model.stages_run == 5


def test_one_job_too_many_is_refused(serve):
    model = StepModel(held=True)

    async def fill(worker):
        first = asyncio.create_task(read(worker))
        await until(lambda: worker.jobs)
        with pytest.raises(QueueFull, match="try again"):
            await read(worker)
        model.let()
        await first
        return await read(worker)

    assert serve(model, fill, most_jobs=1) == list(Stage)[:5]


@pytest.mark.parametrize("error", [NoFaceFound("No face found."), ValueError("a bug")])
def test_errors_reach_the_reader_and_the_worker_lives_on(serve, error):
    model = StepModel(error=error)

    async def fail_then_run(worker):
        with pytest.raises(type(error)):
            await read(worker)
        model.error = None
        return await read(worker)

    assert serve(model, fail_then_run) == list(Stage)[:5]


def test_a_failed_load_is_tried_again(serve):
    class Flaky(Source):
        def load(self, choice):
            super().load(choice)
            if len(self.loaded) == 1:
                raise OSError("not there yet")
            return self.model

    source = Flaky(StepModel())
    worker = Worker(source)
    try:
        assert isinstance(worker.start()[0].exception(timeout=GIVES_UP_AFTER_S), OSError)
        assert asyncio.run(read(worker)) == list(Stage)[:5]
        assert len(source.loaded) == 2
    finally:
        worker.close()


def test_each_is_told_its_place_and_its_progress_in_the_queue(serve):
    async def three(worker):
        async def all_events():
            return [event async for event in worker.stream(PHOTO)]

        return await asyncio.gather(*(all_events() for _ in range(3)))

    first, second, third = serve(StepModel(), three)
    assert not any(isinstance(event, Waiting) for event in first)
    assert [event.position for event in second if isinstance(event, Waiting)] == [1]
    assert [event.position for event in third if isinstance(event, Waiting)] == [2, 1]
    for events in (first, second, third):  # and the places come before the work
        assert [event.stage for event in events[-5:]] == list(Stage)[:5]


def test_places_move_up_when_somebody_leaves(serve):
    model = StepModel(held=True)

    async def leave(worker):
        first = asyncio.create_task(read(worker))
        await until(lambda: model.running)
        second = asyncio.create_task(read(worker))
        await until(lambda: worker.jobs == 2)
        third = worker.stream(PHOTO)
        assert (await anext(third)).position == 2
        second.cancel()
        assert (await anext(third)).position == 1
        await third.aclose()
        model.let()
        await first

    serve(model, leave)


def test_whoever_waits_for_a_model_is_told_so():
    loading, may_end = threading.Event(), threading.Event()

    class Slow(Source):
        def load(self, choice):
            loading.set()
            assert may_end.wait(GIVES_UP_AFTER_S)
            return super().load(choice)

    async def early(worker):
        worker.start()
        await until(loading.is_set)
        events = worker.stream(PHOTO)
        first = await anext(events)
        may_end.set()
        await events.aclose()
        await until(lambda: not worker.jobs and not worker._loads)
        return first

    worker = Worker(Slow(StepModel()))
    try:
        assert asyncio.run(early(worker)) == Waiting(1, loading=True)
        events = asyncio.run(collect(worker, ModelChoice("hrn", "fp16")))
        assert events[0] == Loading(ModelChoice("hrn", "fp16"))
    finally:
        worker.close()


async def collect(worker, choice):
    return [event async for event in worker.stream(PHOTO, choice)]


def test_two_threads_work_at_once_each_with_its_own_model():
    model = StepModel(held=True)
    source = Source(model)
    worker = Worker(source, WorkerLimits(concurrency=2))

    async def four():
        reading = asyncio.gather(*(read(worker) for _ in range(4)))
        await until(lambda: model.running == 2)
        model.let()
        await reading

    try:
        asyncio.run(asyncio.wait_for(four(), GIVES_UP_AFTER_S))
    finally:
        model.let()
        worker.close()
    assert model.most_at_once == 2 and len(source.loaded) == 2


def test_a_photo_past_its_deadline_is_given_up_and_the_machine_freed(serve):
    model = StepModel(held=True)

    async def late(worker):
        with pytest.raises(DeadlinePassed, match="longer than") as caught:
            await read(worker)
        model.let()
        await until(lambda: not worker.jobs)
        return caught.value.values

    assert serve(model, late, deadline_s=0.15) == {"deadline_s": 0.15}
    assert model.stages_run <= 1


def test_the_deadline_counts_waiting(serve):
    model = StepModel(held=True)

    async def behind(worker):
        outcomes = await asyncio.gather(*(read(worker) for _ in range(2)), return_exceptions=True)
        model.let()
        await until(lambda: not worker.jobs)
        return [type(outcome) for outcome in outcomes]

    assert serve(model, behind, deadline_s=0.15) == [DeadlinePassed] * 2
    assert len(model.calls) <= 1  # the other one never began


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("[x] can't allocate memory")]
)
def test_memory_that_runs_out_is_named_and_let_go(serve, error):
    async def run_out(worker):
        with pytest.raises(OutOfMemory, match="smaller texture") as caught:
            await read(worker)
        assert caught.value.__cause__ is None and caught.value.__context__ is None  # they would keep the tensors
        worker._provider.model.error = None
        return await read(worker)

    assert serve(StepModel(error=error), run_out) == list(Stage)[:5]


def test_faces_are_found_in_turn(serve):
    model = StepModel(held=True)

    async def find_behind(worker):
        working = asyncio.create_task(read(worker))
        await until(lambda: model.running)
        finding = asyncio.create_task(worker.find(PHOTO))
        await until(lambda: worker.jobs == 2)
        model.let()
        faces = await finding
        assert model.calls == [("stream", 0), ("find", 5)]
        await working
        model.error = NoFaceFound("No face found.")
        with pytest.raises(NoFaceFound):
            await worker.find(PHOTO)
        return faces

    assert serve(model, find_behind) == (FACE,)


def test_after_each_photo_something_may_be_done():
    calls = []
    worker = Worker(Source(StepModel()), LIMITS, after_photo=lambda: calls.append(1))
    try:
        asyncio.run(read(worker))
        asyncio.run(worker.find(PHOTO))
        asyncio.run(read(worker))
    finally:
        worker.close()
    assert len(calls) == 2


@pytest.mark.parametrize("wrong", [{"concurrency": 0}, {"most_jobs": 0}, {"deadline_s": -1}, {"most_models": 0}])
def test_limits_are_checked(wrong):
    with pytest.raises(ValueError):
        WorkerLimits(**wrong)


def test_event_loop_stays_awake(serve):
    """Each stage computes until the loop has turned ten times more: one that computed itself would never get there."""
    turns = 0

    class BusyModel(StepModel):
        def stream(self, photo, *, stop, **options):
            gives_up_at = time.monotonic() + GIVES_UP_AFTER_S
            matrix = np.ones((700, 700), np.float32)
            for stage in list(Stage)[:5]:
                enough = turns + 10
                while turns < enough:
                    assert time.monotonic() < gives_up_at, "the loop stood still"
                    matrix = matrix @ matrix * 1e-3
                yield StageEvent(stage, 0.5, 0.1)

    async def turn_while_reading(worker):
        nonlocal turns
        task = asyncio.create_task(read(worker))
        while not task.done():
            turns += 1
            await asyncio.sleep(0.001)
        return await task

    assert serve(BusyModel(), turn_while_reading) == list(Stage)[:5]
