"""What tests of serving share."""

import asyncio

import pytest

from hrn_opt.serving.worker import Worker, WorkerLimits
from tests.serving.step_model import GIVES_UP_AFTER_S, Source, ThreadPipe, setup_of


@pytest.fixture
def serve():
    """Runs a coroutine function with a worker over the given model, or source of models; the worker is closed then."""

    def run(model, work, start_process=ThreadPipe, **limits):
        source = model if hasattr(model, "load") else Source(model)

        async def whole():
            worker = Worker(setup_of(source), WorkerLimits(**limits), start_process)
            worker.start()
            try:
                return await work(worker)
            finally:
                await worker.close()

        return asyncio.run(asyncio.wait_for(whole(), timeout=GIVES_UP_AFTER_S))

    return run
