"""What tests of serving share."""

import asyncio

import pytest

from hrn_opt.serving.worker import Worker, WorkerLimits
from tests.serving.step_model import GIVES_UP_AFTER_S, Source


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
