"""How things are timed: warm-up, many runs, median and 95th percentile; whole processes as the kernel counts them."""

from __future__ import annotations

import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class Timing:
    """Seconds over some runs."""

    name: str
    median_s: float
    p95_s: float
    lowest_s: float
    runs: int

    @classmethod
    def of(cls, name: str, seconds: Sequence[float]) -> Timing:
        ordered = sorted(seconds)
        p95 = ordered[min(int(0.95 * len(ordered)), len(ordered) - 1)]
        return cls(name, statistics.median(ordered), p95, ordered[0], len(ordered))


@dataclass(frozen=True)
class ProcessCost:
    """A whole process, from start to exit.

    peak_rss_mb: its largest resident size in megabytes (10^6 bytes).
    """

    name: str
    wall_s: float
    peak_rss_mb: float


@dataclass(frozen=True)
class Machine:
    """What the figures were measured on."""

    processor: str
    cores: int
    gpu: str
    python: str
    torch: str

    @classmethod
    def here(cls) -> Machine:
        gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
        return cls(_processor(), os.cpu_count() or 1, gpu, platform.python_version(), torch.__version__)


def time_calls(name: str, call: Callable[[], object], runs: int, warm_up: int = 2) -> Timing:
    """Timing of `call` after some calls that do not count."""
    for _ in range(warm_up):
        call()
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return Timing.of(name, seconds)


def run_process(name: str, arguments: Sequence[str], folder: Path) -> ProcessCost:
    """One run of this Python with `arguments` in `folder`; raises CalledProcessError when it fails."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], cwd=folder, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    return ProcessCost(name, wall, _rss_mb(usage))


def _rss_mb(usage: resource.struct_rusage) -> float:
    to_bytes = 1 if sys.platform == "darwin" else 1024
    return usage.ru_maxrss * to_bytes / 1e6


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
