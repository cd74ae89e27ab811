"""The embedded model on this machine: photo → texture, its stages, and the command line as a whole process."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

import hrn_opt
from benchmarks.face import PHOTO, ROOT
from benchmarks.measure import ProcessCost, Timing, run_process, time_calls

LARGE_SIZE_WH = (4000, 3000)  # 12 megapixels


@dataclass(frozen=True)
class EmbeddedResult:
    timings: tuple[Timing, ...]
    stages: tuple[Timing, ...]
    processes: tuple[ProcessCost, ...]


def measure_embedded(runs: int) -> EmbeddedResult:
    """Everything, on the example photo and on a 12-megapixel picture of it."""
    model = hrn_opt.load("builtin")
    with tempfile.TemporaryDirectory() as folder:
        large = _large_photo(Path(folder))
        timings, stages = _photo_to_texture(model, "512 px photo file → 1024² texture", PHOTO, runs)
        large_timings, _ = _photo_to_texture(model, "12-megapixel photo file → 1024² texture", large, max(runs // 3, 3))
        processes = (
            _command_line("command line, 512 px photo → PNG + GLB + OBJ", PHOTO, Path(folder) / "a"),
            _command_line("command line, 12-megapixel photo → PNG + GLB + OBJ", large, Path(folder) / "b"),
        )
    return EmbeddedResult((*timings, *large_timings), stages, processes)


def _photo_to_texture(model, name: str, photo: Path, runs: int) -> tuple[tuple[Timing, ...], tuple[Timing, ...]]:
    """Decoding included: from the file on disk to the texture in memory."""
    seconds = defaultdict(list)

    def once() -> None:
        for timing in model.reconstruct(photo, want="texture").timings:
            seconds[timing.stage.value].append(timing.seconds)

    whole = time_calls(name, once, runs)
    stages = tuple(Timing.of(stage, values[-runs:]) for stage, values in seconds.items())
    return (whole,), stages


def _large_photo(folder: Path) -> Path:
    """The example photo in the middle of 12 megapixels, its face about 540 px wide."""
    path = folder / "large.jpg"
    portrait = Image.open(PHOTO).resize((3000, 3000), Image.Resampling.LANCZOS)
    canvas = Image.new("RGB", LARGE_SIZE_WH, (150, 150, 150))
    canvas.paste(portrait, (500, 0))
    canvas.save(path, quality=92)
    return path


def _command_line(name: str, photo: Path, out: Path) -> ProcessCost:
    return run_process(name, ["-m", "hrn_opt", "make", str(photo), "--out", str(out), "--json"], ROOT)
