"""The published model against the engine, and every step between them: interleaved, each in a process of its own.

In every round each rung makes the photo's texture once, so that what the machine does besides meets all of them. A
rung's gain is the median over the rounds of the published model's time over its own.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.face import ROOT
from benchmarks.measure import Timing, watched_memory
from benchmarks.official import PYTORCH3D_STAND_IN, missing_needs
from benchmarks.rung import OFFICIAL, RungSpec, ladder
from hrn_opt.runtime import parse_device

Tell = Callable[[str, float], None]

UV_CALL_S = 15.5  # one call of PyTorch3D's CPU rasteriser on the published layout, measured once on two cores


@dataclass(frozen=True)
class Difference:
    """From the published model's result; of textures in grey levels, before clipping.

    texture_db: PSNR of the clipped textures.
    vertices_dm: the largest, in decimetres.
    """

    texture_mean: float
    texture_p99: float
    texture_p999: float
    texture_db: float
    vertices_dm: float

    @classmethod
    def between(cls, reference: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> Difference:
        levels = np.abs(found["texture"].astype(np.float64) - reference["texture"]) * 255
        clipped = found["texture"].clip(0, 1).astype(np.float64) - reference["texture"].clip(0, 1)
        mean_square = max(float((clipped**2).mean()), 1e-12)
        return cls(
            float(levels.mean()),
            float(np.quantile(levels, 0.99)),
            float(np.quantile(levels, 0.999)),
            -10 * float(np.log10(mean_square)),
            float(np.abs(found["vertices"] - reference["vertices"]).max()),
        )


@dataclass(frozen=True)
class Rung:
    """photo: warm.

    first_s: the first photo after loading.
    gain, gain_low, gain_high: median and range over rounds.

    memory_mb: the most it took.
    memory_over_time: (seconds, resident MB) during one photo.
    """

    name: str
    what: str
    import_s: float
    load_s: float
    first_s: float
    photo: Timing
    gain: float
    gain_low: float
    gain_high: float
    memory_mb: dict[str, float]
    memory_over_time: tuple[tuple[float, float], ...]
    difference: Difference


@dataclass(frozen=True)
class LadderResult:
    """uv_calls: rasterisations of the UV layout a photo, in the published code.

    unmemoised_s: the published code's time had each of them been done by PyTorch3D on a CPU; 0 where it was.
    """

    device: str
    rounds: int
    stand_ins: tuple[str, ...]
    uv_calls: int
    uv_call_s: float
    unmemoised_s: float
    rungs: tuple[Rung, ...]


def why_not() -> str:
    """Why the published code cannot run here; empty when it can."""
    missing = missing_needs()
    if not missing:
        return ""
    return f"the published code needs {', '.join(missing)}: pip install -c constraints.txt -e '.[dev,oracle]'"


def measure_ladder(
    published: Path, prepared: Path, rounds: int, tell: Tell, device: str = "auto", only: Sequence[str] = ()
) -> LadderResult:
    """only: names of rungs besides the first; all when empty."""
    on = parse_device(device)
    specs = [spec for spec in ladder(on) if not only or spec.name in (OFFICIAL, *only)]
    with ExitStack() as running:
        processes = []
        for number, spec in enumerate(specs):
            tell(f"loading {spec.name}", 0.1 * number / len(specs))
            processes.append(running.enter_context(_Process(spec, published, prepared, on)))
        _run_rounds(processes, rounds, lambda what, done: tell(what, 0.1 + 0.8 * done))
        _collect_results(processes, lambda what, done: tell(what, 0.9 + 0.1 * done))
    first = processes[0]
    unmemoised_s = statistics.median(first.seconds[1:]) + first.uv_calls * UV_CALL_S
    return LadderResult(
        device=str(on),
        rounds=rounds,
        stand_ins=tuple(first.ready["stand_ins"]),
        uv_calls=first.uv_calls,
        uv_call_s=UV_CALL_S,
        unmemoised_s=unmemoised_s if PYTORCH3D_STAND_IN in first.ready["stand_ins"] else 0.0,
        rungs=tuple(_rung(process, first) for process in processes),
    )


def _run_rounds(processes: Sequence[_Process], rounds: int, tell: Tell) -> None:
    """Every rung once a round; the first round is the warm-up, in the last one memory is watched."""
    for turn in range(rounds + 1):
        for number, process in enumerate(processes):
            what = f"round {turn} of {rounds}: {process.spec.name}" if turn else f"first photo: {process.spec.name}"
            tell(what, (turn + number / len(processes)) / (rounds + 1))
            process.run(watch=turn == rounds)


def _collect_results(processes: Sequence[_Process], tell: Tell) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for number, process in enumerate(processes):
            tell(f"comparing {process.spec.name}", number / len(processes))
            process.collect(Path(folder) / "result.npz")


class _Process:
    """A running rung.

    ready: what it said once loaded.
    seconds: of each run.
    memory_over_time: (seconds, resident MB) of the run that was watched.
    memory_mb, uv_calls, result: known once collected.
    """

    def __init__(self, spec: RungSpec, published: Path, prepared: Path, device: torch.device):
        self.spec, self.seconds, self.memory_over_time = spec, [], ()
        places = ["--published", str(published), "--prepared", str(prepared), "--device", str(device)]
        self._arguments = ["-m", "benchmarks.rung", spec.name, *places]

    def __enter__(self) -> _Process:
        self._errors = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [sys.executable, *self._arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self.ready = self._answer()
        return self

    def __exit__(self, *_error) -> None:
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def run(self, watch: bool = False) -> None:
        if not watch:
            self.seconds.append(self._ask("run")["seconds"])
            return
        with watched_memory(self._process.pid) as samples:
            self.seconds.append(self._ask("run")["seconds"])
        self.memory_over_time = tuple(samples)

    def collect(self, path: Path) -> None:
        self.memory_mb = self._ask(f"result {path}")
        self.uv_calls = self.memory_mb.pop("uv_calls")
        with np.load(path) as arrays:
            self.result = dict(arrays)

    def _ask(self, command: str) -> dict:
        print(command, file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            last = (self._errors.read().strip().splitlines() or ["it said nothing"])[-1]
            raise RuntimeError(f"the rung {self.spec.name} ended by itself: {last}")
        return json.loads(line)


def _rung(process: _Process, first: _Process) -> Rung:
    own = process.seconds[1:]
    gains = [theirs / ours for theirs, ours in zip(first.seconds[1:], own, strict=True)]
    return Rung(
        name=process.spec.name,
        what=process.spec.what,
        import_s=process.ready["import_s"],
        load_s=process.ready["load_s"],
        first_s=process.seconds[0],
        photo=Timing.of(process.spec.name, own),
        gain=statistics.median(gains),
        gain_low=min(gains),
        gain_high=max(gains),
        memory_mb=process.memory_mb,
        memory_over_time=process.memory_over_time,
        difference=Difference.between(first.result, process.result),
    )
