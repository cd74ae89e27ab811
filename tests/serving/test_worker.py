"""The worker with a model of our own making: order, cancel, errors, deaths, and an event loop that stays awake."""

import asyncio
import threading
import time

import numpy as np
import pytest
import torch

from hrn_opt.errors import InternalError, NoFaceFound, OutOfMemory, ProcessDied, ShuttingDown, Stopped
from hrn_opt.serving.jobs import FacesMade, Loading, ModelChoice, StageDone
from hrn_opt.serving.stop import Stop
from tests.serving.step_model import (
    GIVES_UP_AFTER_S,
    STAGES,
    Source,
    StepModel,
    ThreadPipe,
    job,
    read,
    until,
)


def test_events_come_in_order_and_the_files_last(serve, tmp_path):
    async def one(worker):
        return [event async for event in worker.run(job(tmp_path, "ada.jpg"))]

    *stages, _, made = serve(StepModel(), one)
    assert [event.cost.stage for event in stages if isinstance(event, StageDone)] == STAGES
    assert isinstance(made, FacesMade) and made.choice == ModelChoice("builtin", "auto")
    assert made.faces[0].files.texture.read_bytes()[:4] == b"\x89PNG"


def test_events_come_as_they_happen(serve, tmp_path):
    model = StepModel(held=True)

    async def first(worker):
        events = worker.run(job(tmp_path))
        model.let(1)
        event = await anext(event async for event in events if isinstance(event, StageDone))
        stages_run = model.stages_run
        model.let()
        await events.aclose()
        return event.cost.stage, stages_run

    assert serve(model, first) == (STAGES[0], 1)


def test_two_jobs_are_never_at_once_in_a_process(serve, tmp_path):
    model = StepModel()

    async def three(worker):
        return await asyncio.gather(*(read(worker, job(tmp_path)) for _ in range(3)))

    assert all(stages == STAGES for stages in serve(model, three))
    assert (model.most_at_once, model.stages_run) == (1, 18)


def test_two_processes_work_at_once_each_with_its_own_model(serve, tmp_path):
    model = StepModel(held=True)
    source = Source(model)

    async def four(worker):
        reading = asyncio.gather(*(read(worker, job(tmp_path)) for _ in range(4)))
        await until(lambda: model.running == 2)
        model.let()
        await reading

    serve(source, four, processes=2)
    assert model.most_at_once == 2 and len(source.loaded) == 2


def test_cancel_frees_the_machine_within_one_stage(serve, tmp_path):
    model = StepModel(held=True)

    async def cancel_then_run(worker):
        task = asyncio.create_task(read(worker, job(tmp_path)))
        model.let(1)
        await until(lambda: model.stages_run == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        model.let()
        await read(worker, job(tmp_path))

    serve(model, cancel_then_run)
    assert model.stages_run <= 2 + 6  # at most one more of the first job, then those of the second
    assert model.most_at_once == 1


def test_leaving_the_loop_stops_the_job(serve, tmp_path):
    model = StepModel(held=True)

    async def leave(worker):
        events = worker.run(job(tmp_path))
        model.let(1)
        await anext(events)
        await events.aclose()
        model.let()
        await until(lambda: not worker.jobs)

    serve(model, leave)
    assert model.stages_run <= 2 and model.running == 0


def test_the_stop_flag_ends_the_job_from_any_thread(serve, tmp_path):
    model = StepModel(held=True)

    async def stopped(worker):
        stop = Stop()
        model.let(1)
        async for event in worker.run(job(tmp_path), stop=stop):
            if isinstance(event, StageDone):
                threading.Thread(target=stop.set).start()

    with pytest.raises(Stopped):
        serve(model, lambda worker: _and_let_go(stopped(worker), model))


async def _and_let_go(work, model):
    try:
        await work
    finally:
        model.let()


@pytest.mark.parametrize(
    ("error", "told"), [(NoFaceFound("No face found."), NoFaceFound), (ValueError("a bug"), InternalError)]
)
def test_errors_reach_the_reader_and_the_worker_lives_on(serve, tmp_path, error, told):
    model = StepModel(error=error)

    async def fail_then_run(worker):
        with pytest.raises(told):
            await read(worker, job(tmp_path))
        model.error = None
        return await read(worker, job(tmp_path))

    assert serve(model, fail_then_run) == STAGES


def test_a_failed_load_is_told_and_tried_again(serve, tmp_path):
    class Flaky(Source):
        def load(self, choice):
            super().load(choice)
            if len(self.loaded) == 1:
                raise OSError("not there yet")
            return self.model

    source = Flaky(StepModel())

    async def retry(worker):
        await until(lambda: worker.failure is not None)
        assert not worker.is_ready
        stages = await read(worker, job(tmp_path))
        assert worker.is_ready and worker.failure is None
        return stages

    assert serve(source, retry) == STAGES and len(source.loaded) == 2


def test_another_model_is_loaded_when_it_is_asked_for(serve, tmp_path):
    async def other(worker):
        asked = job(tmp_path, choice=ModelChoice("hrn", "fp16"))
        return [event async for event in worker.run(asked) if isinstance(event, Loading)]

    assert serve(StepModel(), other) == [Loading(ModelChoice("hrn", "fp16"))]


@pytest.mark.parametrize(
    "error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("[x] can't allocate memory")]
)
def test_memory_that_runs_out_is_named(serve, tmp_path, error):
    model = StepModel(error=error)

    async def run_out(worker):
        with pytest.raises(OutOfMemory, match="smaller texture"):
            await read(worker, job(tmp_path))
        model.error = None
        return await read(worker, job(tmp_path))

    assert serve(model, run_out) == STAGES


def test_a_process_that_dies_takes_its_photo_alone(serve, tmp_path):
    model, pipes = StepModel(held=True), []

    def start(setup, tell):
        pipes.append(ThreadPipe(setup, tell))
        return pipes[-1]

    async def die(worker):
        first = asyncio.create_task(read(worker, job(tmp_path)))
        await until(lambda: model.running)
        second = asyncio.create_task(read(worker, job(tmp_path)))
        pipes[0].kill()
        with pytest.raises(ProcessDied):
            await first
        model.let()
        return await second

    assert serve(model, die, start_process=start) == STAGES
    assert len(pipes) == 2


def test_a_process_that_does_not_stop_is_replaced(serve, tmp_path):
    model, pipes = StepModel(held=True), []

    def start(setup, tell):
        pipes.append(ThreadPipe(setup, tell))
        return pipes[-1]

    async def hang(worker):
        task = asyncio.create_task(read(worker, job(tmp_path)))
        await until(lambda: model.running)
        task.cancel()
        await until(lambda: len(pipes) == 2)
        model.let()
        return await read(worker, job(tmp_path))

    assert serve(model, hang, start_process=start, unresponsive_s=0.05) == STAGES


def test_the_end_lets_the_one_at_work_finish_and_turns_the_others_away(serve, tmp_path):
    model = StepModel(held=True)

    async def end(worker):
        first = asyncio.create_task(read(worker, job(tmp_path)))
        await until(lambda: model.running)
        second = asyncio.create_task(read(worker, job(tmp_path)))
        await until(lambda: worker.waiting == 1)
        closing = asyncio.create_task(worker.close(drain_s=GIVES_UP_AFTER_S))
        with pytest.raises(ShuttingDown):
            await second
        with pytest.raises(ShuttingDown):
            await read(worker, job(tmp_path))
        model.let()
        stages = await first
        await closing
        return stages

    assert serve(model, end) == STAGES


def test_the_end_stops_those_that_take_too_long(serve, tmp_path):
    model = StepModel(held=True)

    async def end(worker):
        task = asyncio.create_task(read(worker, job(tmp_path)))
        await until(lambda: model.running)
        asyncio.get_running_loop().call_later(0.05, model.let)
        await worker.close(drain_s=0.01)
        with pytest.raises(ShuttingDown):
            await task

    serve(model, end)


def test_event_loop_stays_awake(serve, tmp_path):
    """Each stage computes until the loop has turned ten times more: one that computed itself would never get there."""
    turns = 0

    class BusyModel(StepModel):
        def stream(self, found, **options):
            gives_up_at = time.monotonic() + GIVES_UP_AFTER_S
            matrix = np.ones((700, 700), np.float32)
            for event in super().stream(found, **options):
                enough = turns + 10
                while turns < enough:
                    assert time.monotonic() < gives_up_at, "the loop stood still"
                    matrix = matrix @ matrix * 1e-3
                yield event

    async def turn_while_reading(worker):
        nonlocal turns
        task = asyncio.create_task(read(worker, job(tmp_path)))
        while not task.done():
            turns += 1
            await asyncio.sleep(0.001)
        return await task

    assert serve(BusyModel(), turn_while_reading) == STAGES
