"""How things are timed: warm-up, many runs, median and 95th percentile; whole processes as the kernel counts them."""

from __future__ import annotations

import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psutil
import torch

from benchmarks.face import ROOT

MEASURED_WITH = ("torch", "numpy", "pillow", "gradio", "modelscope", "accelerate")


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
class Host:
    """What the figures were measured on."""

    processor: str
    cores: int
    memory_gb: float
    gpu: str
    python: str
    versions: dict[str, str]
    commit: str

    @classmethod
    def here(cls) -> Host:
        gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
        memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
        versions = {name: version(name) for name in MEASURED_WITH}
        return cls(_processor(), os.cpu_count() or 1, memory_gb, gpu, platform.python_version(), versions, _commit())

    @property
    def slug(self) -> str:
        """A file name for its results."""
        parts = [self.processor, f"{self.cores} cores", *([] if self.gpu == "none" else [self.gpu])]
        return re.sub(r"[^a-z0-9]+", "-", " ".join(parts).lower()).strip("-")


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


@dataclass(frozen=True)
class Pair:
    """Two ways to the same, taken in turn.

    gain, gain_low, gain_high: median and quartiles, over the pairs, of the baseline's time over ours.
    """

    name: str
    baseline: Timing
    ours: Timing
    gain: float
    gain_low: float
    gain_high: float


def time_pairs(
    name: str, baseline: Callable[[], object], ours: Callable[[], object], runs: int, warm_up: int = 2
) -> Pair:
    """Both timed `runs` times in turn, so that what the machine does besides meets both."""
    seconds: list[tuple[float, float]] = []
    for _ in range(warm_up + runs):
        start = time.perf_counter()
        baseline()
        middle = time.perf_counter()
        ours()
        seconds.append((middle - start, time.perf_counter() - middle))
    theirs, own = zip(*seconds[warm_up:], strict=True)
    gains = [slow / fast for slow, fast in zip(theirs, own, strict=True)]
    low, _, high = statistics.quantiles(gains, n=4)
    return Pair(name, Timing.of("published", theirs), Timing.of("here", own), statistics.median(gains), low, high)


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


def peak_rss_mb(pid: int | str = "self") -> float:
    """The largest resident size of a process so far, in 10^6 bytes.

    On Linux from its own memory map: getrusage counts what the parent held when it started this process, too.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return _rss_mb(resource.getrusage(resource.RUSAGE_SELF))
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM:"))


@contextmanager
def watched_memory(pid: int, every_s: float = 0.02) -> Iterator[list[tuple[float, float]]]:
    """(seconds, resident MB) of a process while the block runs."""
    samples: list[tuple[float, float]] = []
    ended, start = threading.Event(), time.perf_counter()

    def watch() -> None:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            while not ended.wait(every_s):
                samples.append((time.perf_counter() - start, process.memory_info().rss / 1e6))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()
        samples[:] = samples[:: len(samples) // 100 + 1]


def _rss_mb(usage: resource.struct_rusage) -> float:
    to_bytes = 1 if sys.platform == "darwin" else 1024
    return usage.ru_maxrss * to_bytes / 1e6


def _commit() -> str:
    """The short hash of what was measured, with a plus when files differ from it; empty outside a clone."""
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--dirty=+"], cwd=ROOT, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return said.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
