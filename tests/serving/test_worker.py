"""The worker with a model of our own making: order, cancel, limits, errors, and an event loop that stays awake."""

import asyncio
import threading
import time

import numpy as np
import pytest
import torch

from hrn_opt.errors import NoFaceFound, OutOfMemory, Stopped
from hrn_opt.serving.models import ModelChoice
from hrn_opt.serving.worker import Loading, Worker, WorkerLimits
from hrn_opt.types import Stage, StageEvent
from tests.serving.step_model import GIVES_UP_AFTER_S, PHOTO, Source, StepModel, read, until

LIMITS = WorkerLimits()


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
