"""What the server has done and holds, for Prometheus: GET /metrics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import psutil
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily

from hrn_opt.machine import resident_bytes
from hrn_opt.serving.jobs import StageCost
from hrn_opt.serving.worker import Worker

_STAGE_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_REQUEST_SECONDS = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Counts; what it holds is looked at when somebody asks."""

    def __init__(self, worker: Worker):
        self._worker = worker
        self._registry = CollectorRegistry()
        self._requests = Histogram(
            "hrn_opt_request_seconds",
            "Requests by what was asked and how it ended, and how long they took.",
            ("method", "route", "status"),
            registry=self._registry,
            buckets=_REQUEST_SECONDS,
        )
        self._stages = Histogram(
            "hrn_opt_stage_seconds",
            "Stages of the method, and how long they took.",
            ("stage",),
            registry=self._registry,
            buckets=_STAGE_SECONDS,
        )
        self._runs = Counter("hrn_opt_runs", "Photos by how their runs ended.", ("outcome",), registry=self._registry)
        self._refusals = Counter("hrn_opt_refusals", "Errors by class.", ("error",), registry=self._registry)
        self._device_bytes = 0
        self._registry.register(_Holdings(self))

    def request_ended(self, method: str, route: str, status: int, seconds: float) -> None:
        self._requests.labels(method, route, status).observe(seconds)

    def stage_ended(self, cost: StageCost) -> None:
        self._stages.labels(cost.stage.value).observe(cost.seconds)
        self._device_bytes = cost.device_bytes

    def run_ended(self, outcome: str, error: str = "") -> None:
        """outcome: as of `logs.RunRecord`. error: its class, where there is one."""
        self._runs.labels(outcome).inc()
        if error:
            self._refusals.labels(error).inc()

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self._registry)

    def holdings(self) -> Iterator[GaugeMetricFamily]:
        """What the server holds now."""
        jobs = GaugeMetricFamily("hrn_opt_jobs", "Photos in the house.", labels=["state"])
        jobs.add_metric(["waiting"], self._worker.waiting)
        jobs.add_metric(["running"], self._worker.jobs - self._worker.waiting)
        yield jobs
        resident = GaugeMetricFamily("hrn_opt_resident_bytes", "Resident memory.", labels=["process"])
        resident.add_metric(["server"], resident_bytes())
        resident.add_metric(["models"], sum(_resident_bytes(pid) for pid in self._worker.pids))
        yield resident
        yield GaugeMetricFamily("hrn_opt_ready", "Whether a model answers.", value=self._worker.is_ready)
        yield GaugeMetricFamily(
            "hrn_opt_device_memory_bytes", "GPU memory that a model process held last; 0 on a CPU.", self._device_bytes
        )


class _Holdings:
    """As prometheus_client asks for it."""

    def __init__(self, metrics: Metrics):
        self._metrics = metrics

    def collect(self) -> Iterator[GaugeMetricFamily]:
        return self._metrics.holdings()

    def describe(self) -> tuple[()]:
        return ()


def _resident_bytes(pid: int) -> int:
    """Of a process and those that it started; 0 when it has just gone."""
    total = 0
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            total += one.memory_info().rss
    return total
