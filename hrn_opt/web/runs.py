"""Photos on their way to the worker and back, counted and logged; the page and the endpoint both go this way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

import gradio as gr
from starlette.requests import Request

from hrn_opt.errors import HrnOptError, InputError, Stopped
from hrn_opt.serving.fairness import Caller
from hrn_opt.serving.jobs import Event, FacesMade, Job, MakeJob, StageDone
from hrn_opt.serving.stop import Stop
from hrn_opt.serving.worker import Worker
from hrn_opt.web.asgi import REQUEST_ID, VISITOR, client_address
from hrn_opt.web.folders import Quota
from hrn_opt.web.watch.logs import RunRecord, log_run
from hrn_opt.web.watch.metrics import Metrics

_ROOM_BYTES = 20_000_000  # for the files of one photo; large textures and detail take more, most take less


@dataclass(frozen=True)
class Asker:
    """Who asks for a run.

    run_id: of the request that asked; it stands in the log, and the visitor can see it.
    """

    caller: Caller
    run_id: str


def asker_of(request: Request | gr.Request) -> Asker:
    """Who sent the request, as far as the gate could tell."""
    inner = request.request if isinstance(request, gr.Request) else request
    assert inner is not None, "Gradio hands on the request of each event"
    scope = dict(inner.scope)
    address = client_address(scope)
    return Asker(Caller(scope.get(VISITOR, f"address:{address}"), address), scope.get(REQUEST_ID, ""))


@dataclass(frozen=True)
class Runs:
    """Runs jobs as `Worker.run` does, where there is room for their files, and writes down what became of them."""

    worker: Worker
    metrics: Metrics
    quota: Quota

    async def run(self, job: Job, asker: Asker, stop: Stop | None = None) -> AsyncGenerator[Event, None]:
        """As `Worker.run`; raises DiskFull, too."""
        begun_s, made, outcome, error_name = time.monotonic(), 0, "stopped", ""
        try:
            await asyncio.to_thread(self.quota.check, _ROOM_BYTES)
            async with aclosing(self.worker.run(job, asker.caller, stop)) as events:
                async for event in events:
                    if isinstance(event, StageDone):
                        self.metrics.stage_ended(event.cost)
                    elif isinstance(event, FacesMade):
                        made = len(event.faces)
                    yield event
            outcome = "done"
        except HrnOptError as error:
            error_name = type(error).__name__
            outcome = "refused" if isinstance(error, InputError) else "failed"
            if isinstance(error, Stopped):
                outcome, error_name = "stopped", ""
            raise
        finally:
            self.metrics.run_ended(outcome, error_name)
            if isinstance(job, MakeJob):
                log_run(_record(job, asker, made, time.monotonic() - begun_s, outcome, error_name))


def _record(job: MakeJob, asker: Asker, faces: int, seconds: float, outcome: str, error: str) -> RunRecord:
    visitor, model = asker.caller.visitor, job.choice.name
    return RunRecord(asker.run_id, visitor, model, job.want, job.texture_size, faces, seconds, outcome, error)
