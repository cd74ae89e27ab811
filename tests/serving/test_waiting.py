"""Whoever waits: places in the queue, deadlines, shares."""

import asyncio
import threading

import pytest

from hrn_opt.errors import DeadlinePassed, QueueFull
from hrn_opt.serving.fairness import Caller
from hrn_opt.serving.jobs import Waiting
from hrn_opt.serving.worker import WorkerLimits
from tests.serving.step_model import GIVES_UP_AFTER_S, STAGES, Source, StepModel, job, read, until

ADA, BOB = Caller("ada", "10.0.0.1"), Caller("bob", "10.0.0.1")
EVE = Caller("eve", "10.0.0.2")


def test_cancelled_while_waiting_never_runs(serve, tmp_path):
    model = StepModel(held=True)

    async def cancel_second(worker):
        first = asyncio.create_task(read(worker, job(tmp_path)))
        await until(lambda: model.running)
        second = asyncio.create_task(read(worker, job(tmp_path)))
        await until(lambda: worker.jobs == 2)
        second.cancel()
        await until(lambda: worker.jobs == 1)
        model.let()
        await first
        await until(lambda: not worker.jobs)

    serve(model, cancel_second)
    assert model.stages_run == 6


@pytest.mark.parametrize(
    ("limit", "reason", "others"),
    [
        ("most_jobs", "all", ()),
        ("most_jobs_per_visitor", "visitor", (BOB, EVE)),
        ("most_jobs_per_address", "address", (EVE,)),
    ],
)
def test_one_job_too_many_is_refused_and_others_are_not(serve, tmp_path, limit, reason, others):
    model = StepModel(held=True)

    async def fill(worker):
        first = asyncio.create_task(read(worker, job(tmp_path), ADA))
        await until(lambda: worker.jobs)
        with pytest.raises(QueueFull, match="try again") as caught:
            await read(worker, job(tmp_path), BOB if reason == "address" else ADA)
        assert caught.value.values == {"most_jobs": 1, "reason": reason}
        rest = [asyncio.create_task(read(worker, job(tmp_path), caller)) for caller in others]
        model.let()
        await asyncio.gather(first, *rest)
        return await read(worker, job(tmp_path), ADA)

    assert serve(model, fill, **{limit: 1}) == STAGES


def test_one_photo_of_somebody_waits_for_one_of_many_not_for_all(serve, tmp_path):
    model, ended = StepModel(held=True), []

    async def one(worker, name, caller):
        await read(worker, job(tmp_path), caller)
        ended.append(name)

    async def crowd(worker):
        many = [asyncio.create_task(one(worker, f"ada {number}", ADA)) for number in range(5)]
        await until(lambda: worker.jobs == 5 and model.running)
        few = [asyncio.create_task(one(worker, name, who)) for name, who in (("eve", EVE), ("bob", BOB))]
        await until(lambda: worker.jobs == 7)
        model.let()
        await asyncio.gather(*many, *few)

    serve(model, crowd)
    assert ended == ["ada 0", "eve", "bob", "ada 1", "ada 2", "ada 3", "ada 4"]


def test_each_is_told_its_place_and_its_progress_in_the_queue(serve, tmp_path):
    async def three(worker):
        await until(lambda: worker.is_ready)

        async def all_events():
            return [event async for event in worker.run(job(tmp_path))]

        return await asyncio.gather(*(all_events() for _ in range(3)))

    first, second, third = serve(StepModel(), three)
    assert not any(isinstance(event, Waiting) for event in first)
    assert [event.position for event in second if isinstance(event, Waiting)] == [1]
    assert [event.position for event in third if isinstance(event, Waiting)] == [2, 1]


def test_places_move_up_when_somebody_leaves(serve, tmp_path):
    model = StepModel(held=True)

    async def leave(worker):
        first = asyncio.create_task(read(worker, job(tmp_path)))
        await until(lambda: model.running)
        second = asyncio.create_task(read(worker, job(tmp_path)))
        await until(lambda: worker.jobs == 2)
        third = worker.run(job(tmp_path))
        assert (await anext(third)).position == 2
        second.cancel()
        assert (await anext(third)).position == 1
        await third.aclose()
        model.let()
        await first

    serve(model, leave)


def test_whoever_waits_for_a_model_is_told_so(serve, tmp_path):
    may_end = threading.Event()

    class Slow(Source):
        def load(self, choice):
            assert may_end.wait(GIVES_UP_AFTER_S)
            return super().load(choice)

    async def early(worker):
        events = worker.run(job(tmp_path))
        first = await anext(events)
        may_end.set()
        await events.aclose()
        return first

    assert serve(Slow(StepModel()), early) == Waiting(1, loading=True)


def test_a_photo_past_its_deadline_is_given_up_and_the_machine_freed(serve, tmp_path):
    model = StepModel(held=True)

    async def late(worker):
        with pytest.raises(DeadlinePassed, match="longer than") as caught:
            await read(worker, job(tmp_path))
        model.let()
        await until(lambda: not worker.jobs)
        return caught.value.values

    assert serve(model, late, deadline_s=0.15) == {"deadline_s": 0.15}
    assert model.stages_run <= 1


def test_the_deadline_counts_waiting(serve, tmp_path):
    model = StepModel(held=True)

    async def behind(worker):
        outcomes = await asyncio.gather(*(read(worker, job(tmp_path)) for _ in range(2)), return_exceptions=True)
        model.let()
        await until(lambda: not worker.jobs)
        return [type(outcome) for outcome in outcomes]

    assert serve(model, behind, deadline_s=0.15) == [DeadlinePassed] * 2
    assert model.calls.count(("stream", 0)) <= 1  # the other one never began


@pytest.mark.parametrize(
    "wrong",
    [{"processes": 0}, {"most_jobs": 0}, {"deadline_s": -1}, {"most_jobs_per_visitor": 0}, {"unresponsive_s": 0}],
)
def test_limits_are_checked(wrong):
    with pytest.raises(ValueError):
        WorkerLimits(**wrong)
