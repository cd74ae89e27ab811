"""What an operator's tools ask: is it alive, is it ready, what does it measure, which version is it."""

from __future__ import annotations

import shutil
import tempfile

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST

import hrn_opt
from hrn_opt.serving.worker import Worker
from hrn_opt.web.watch.metrics import Metrics

_LEAST_FREE_BYTES = 64 << 20  # a few photos and their results


def add_to(app: FastAPI, worker: Worker, metrics: Metrics) -> None:
    """Adds /healthz, /readyz, /version and /metrics; nothing in the answers is secret."""

    @app.get("/healthz", include_in_schema=False)
    async def alive() -> dict[str, object]:
        """That the event loop turns. jobs: running and waiting."""
        return {"status": "ok", "jobs": worker.jobs}

    @app.get("/readyz", include_in_schema=False)
    async def ready() -> Response:
        """Whether a photo sent now would be worked on; if not, 503 and why."""
        reasons = _reasons(worker)
        answer = {"status": "not ready" if reasons else "ready", "reasons": reasons}
        return JSONResponse(answer, 503 if reasons else 200)

    @app.get("/metrics", include_in_schema=False)
    def measured() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/version", include_in_schema=False)
    async def version() -> dict[str, str]:
        return {"name": "hrn_opt", "version": hrn_opt.__version__}


def _reasons(worker: Worker) -> list[str]:
    """Why no photo could be taken now."""
    reasons = []
    if worker.is_closing:
        reasons.append("The server is being stopped.")
    if not worker.is_ready:
        failure = worker.failure
        # Not the failure's own sentence: it names paths.
        why = "is being loaded" if failure is None else f"does not load ({type(failure).__name__})"
        reasons.append(f"The model {why}.")
    if worker.is_full:
        reasons.append("The queue is full.")
    try:
        is_full = shutil.disk_usage(tempfile.gettempdir()).free < _LEAST_FREE_BYTES
    except OSError:  # somebody has cleared the folder away
        is_full = True
    if is_full:
        reasons.append("The disk is full, or the visitors' folder is gone.")
    return reasons
