"""The worker with a model of our own making: order, cancel, limits, errors, and an event loop that stays awake."""

import asyncio
import threading
import time

import numpy as np
import pytest

from hrn_opt.errors import NoFaceFound, Stopped
from hrn_opt.serving.worker import Busy, Worker
from hrn_opt.types import Photo, Stage, StageEvent

PHOTO = Photo(np.zeros((4, 6, 3), np.uint8))


class StepModel:
    """Five stages of `seconds` each; remembers how many ran, and how many at once."""

    def __init__(self, seconds=0.02, error=None):
        self.seconds, self.error = seconds, error
        self.stages_run = self.running = self.most_at_once = 0

    def stream(self, photo, *, stop, **options):
        self.running += 1
        self.most_at_once = max(self.most_at_once, self.running)
        try:
            for index, stage in enumerate(list(Stage)[:5]):
                if stop.is_set():
                    raise Stopped("Stopped.")
                time.sleep(self.seconds)
                self.stages_run += 1
                yield StageEvent(stage, (index + 1) / 5, self.seconds)
            if self.error:
                raise self.error
        finally:
            self.running -= 1


@pytest.fixture
def serve():
    """Runs a coroutine function with a worker over the given model; the worker is closed at the end."""
    workers = []

    def run(model, work, **limits):
        workers.append(Worker(lambda: model, **limits))
        return asyncio.run(asyncio.wait_for(work(workers[-1]), timeout=20))

    yield run
    for worker in workers:
        worker.close()


async def read(worker):
    return [event.stage async for event in worker.stream(PHOTO)]


def test_events_come_in_order(serve):
    assert serve(StepModel(), read) == list(Stage)[:5]


def test_events_come_as_they_happen(serve):
    async def first_delay(worker):
        await asyncio.wrap_future(worker.start())
        began = time.perf_counter()
        events = worker.stream(PHOTO)
        await anext(events)
        delay = time.perf_counter() - began
        await events.aclose()
        return delay

    assert serve(StepModel(0.2), first_delay) < 0.4  # one stage of five; all would take 1.0 s


def test_two_jobs_are_never_at_once(serve):
    model = StepModel()

    async def three(worker):
        return await asyncio.gather(*(read(worker) for _ in range(3)))

    assert all(stages == list(Stage)[:5] for stages in serve(model, three))
    assert (model.most_at_once, model.stages_run) == (1, 15)


def test_cancel_frees_the_machine_within_one_stage(serve):
    model = StepModel(0.1)

    async def cancel_then_run(worker):
        task = asyncio.create_task(read(worker))
        await asyncio.sleep(0.15)  # in the second stage
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        stages_before = model.stages_run
        await read(worker)
        return model.stages_run - stages_before

    assert serve(model, cancel_then_run) <= 6  # five of the second job, at most one of the first
    assert model.most_at_once == 1


def test_leaving_the_loop_stops_the_job(serve):
    model = StepModel()

    async def leave(worker):
        events = worker.stream(PHOTO)
        await anext(events)
        await events.aclose()
        while worker.jobs:
            await asyncio.sleep(0.005)

    serve(model, leave)
    assert model.stages_run <= 2 and model.running == 0


def test_stop_flag_ends_the_stream_with_stopped(serve):
    async def stopped(worker):
        stop = threading.Event()
        async for _ in worker.stream(PHOTO, stop=stop):
            stop.set()

    with pytest.raises(Stopped):
        serve(StepModel(), stopped)


def test_cancelled_while_waiting_never_runs(serve):
    model = StepModel(0.05)

    async def cancel_second(worker):
        first = asyncio.create_task(read(worker))
        await asyncio.sleep(0.02)
        second = asyncio.create_task(read(worker))
        await asyncio.sleep(0.02)
        second.cancel()
        await first
        await asyncio.sleep(0.1)
        return worker.jobs

    assert serve(model, cancel_second) == 0
    assert model.stages_run == 5


def test_one_job_too_many_is_refused(serve):
    async def fill(worker):
        first = asyncio.create_task(read(worker))
        await asyncio.sleep(0.02)
        with pytest.raises(Busy, match="try again"):
            await read(worker)
        await first
        return await read(worker)

    assert serve(StepModel(), fill, most_jobs=1) == list(Stage)[:5]


@pytest.mark.parametrize("error", [NoFaceFound("No face found."), ValueError("a bug")])
def test_errors_reach_the_reader_and_the_worker_lives_on(serve, error):
    model = StepModel(error=error)

    async def fail_then_run(worker):
        with pytest.raises(type(error)):
            await read(worker)
        model.error = None
        return await read(worker)

    assert serve(model, fail_then_run) == list(Stage)[:5]


def test_a_failed_load_is_tried_again():
    attempts = []

    def load():
        attempts.append(1)
        if len(attempts) == 1:
            raise OSError("not there yet")
        return StepModel(0)

    worker = Worker(load)
    try:
        assert isinstance(worker.start().exception(timeout=5), OSError)
        assert asyncio.run(read(worker)) == list(Stage)[:5]
        assert len(attempts) == 2
    finally:
        worker.close()


def test_event_loop_stays_awake(serve):
    class BusyModel(StepModel):
        def stream(self, photo, *, stop, **options):
            for stage in list(Stage)[:5]:
                matrix = np.ones((700, 700), np.float32)
                until = time.perf_counter() + 0.1
                while time.perf_counter() < until:
                    matrix = matrix @ matrix * 1e-3
                yield StageEvent(stage, 0.5, 0.1)

    async def worst_lag(worker):
        task, worst = asyncio.create_task(read(worker)), 0.0
        while not task.done():
            before = time.perf_counter()
            await asyncio.sleep(0.005)
            worst = max(worst, time.perf_counter() - before - 0.005)
        return worst

    assert serve(BusyModel(), worst_lag) < 0.09  # a blocked loop would show a whole stage, 0.1 s, or more
