"""Whoever waits: places in the queue, deadlines, limits."""

import asyncio
import threading

import pytest

from hrn_opt.errors import DeadlinePassed, NoFaceFound, QueueFull
from hrn_opt.serving.models import ModelChoice
from hrn_opt.serving.worker import Loading, Waiting, Worker, WorkerLimits
from hrn_opt.types import Stage
from tests.serving.step_model import FACE, GIVES_UP_AFTER_S, PHOTO, Source, StepModel, read, until


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
        (ready,) = worker.start()
        await until(loading.is_set)
        events = worker.stream(PHOTO)
        first = await anext(events)
        may_end.set()
        await events.aclose()
        await asyncio.wrap_future(ready)
        await until(lambda: not worker.jobs)
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


@pytest.mark.parametrize("wrong", [{"concurrency": 0}, {"most_jobs": 0}, {"deadline_s": -1}, {"most_models": 0}])
def test_limits_are_checked(wrong):
    with pytest.raises(ValueError):
        WorkerLimits(**wrong)
