"""HRN on this machine: from landmarks to texture against the sum of its networks' own times, in the same run.

Without the published weights a full-size synthetic pack stands in: the same networks with seeded random numbers, so
the same work.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import hrn_opt
from benchmarks.face import LANDMARKS, PHOTO, SKIN
from benchmarks.measure import Pair, Timing, time_pairs
from hrn_opt.hrn.model import HrnModel
from hrn_opt.hrn.pack.prepare import prepare
from hrn_opt.runtime import keep_freed_memory
from hrn_opt.types import Photo
from testing.synthetic_pack.pack import write_pack

OFFICIAL_SIZE, LARGE_SIZE = 256, 1024
BATCH_FACES = 4

Mark = float | torch.cuda.Event  # seconds, or what CUDA notes when it comes to it


@dataclass(frozen=True)
class Floor:
    """One way through HRN.

    whole, networks: seconds.
    ratio: median over the runs of whole / networks, pair by pair.
    """

    whole: Timing
    networks: Timing
    ratio: float


@dataclass(frozen=True)
class HrnResult:
    """batch: some faces of one photo, one by one against all together."""

    pack: str
    precision: str
    load_s: float
    floors: tuple[Floor, ...]
    stages: tuple[Timing, ...]
    batch: Pair


def packs(given: Path | None, folder: Path) -> tuple[Path, Path]:
    """The published pack and the prepared one; without a given pack a full-size synthetic one, made in `folder`."""
    published = given or write_pack(folder / "published", seed=1, size="full")
    return published, prepare(published, folder / "prepared")


def measure_hrn(prepared: Path, precision: str, device: str, runs: int, synthetic: bool) -> HrnResult:
    keep_freed_memory()  # as the app and the command line do
    start = time.perf_counter()
    reconstructor = hrn_opt.load(prepared, precision=precision, device=device)
    load_s = time.perf_counter() - start
    model: HrnModel = reconstructor._model
    if model.pack.has_detectors:
        model.__dict__["find_networks"] = replace(model.find_networks, fan=_Plain(model.find_networks.fan))
    photo = hrn_opt.open_photo(PHOTO)
    stages: dict[str, list[float]] = {}
    known = {
        "landmarks": LANDMARKS + 0.5,  # the published code counts from pixel centres
        "skin_mask": SKIN,
        "cheek_widening": 0.0,
    }

    def given(size: int) -> Callable[[], object]:
        return lambda: reconstructor.reconstruct(photo, want="texture", texture_size=size, **known)

    def found() -> None:
        for timing in reconstructor.reconstruct(photo, want="texture", texture_size=OFFICIAL_SIZE).timings:
            stages.setdefault(timing.stage.value, []).append(timing.seconds)

    floors = [_floor(f"landmarks → {size}² texture", given(size), model, runs) for size in (OFFICIAL_SIZE, LARGE_SIZE)]
    if model.pack.has_detectors:
        floors.append(_floor(f"photo → {OFFICIAL_SIZE}² texture, finding and widening included", found, model, runs))
    return HrnResult(
        pack="synthetic, full size" if synthetic else "published",
        precision=precision,
        load_s=load_s,
        floors=tuple(floors),
        stages=tuple(Timing.of(name, seconds[-runs:]) for name, seconds in stages.items()),
        batch=_batch(reconstructor, photo, max(3, runs // 3)),
    )


def _batch(reconstructor, photo: Photo, runs: int) -> Pair:
    shifts = np.arange(BATCH_FACES)[:, None, None] * [20.0, 0.0]
    faces = tuple(reconstructor._model.face_at(torch.from_numpy(points)) for points in LANDMARKS + shifts)
    options = {"want": "texture", "texture_size": OFFICIAL_SIZE, "faces": faces, "cheek_widening": 0.0}

    def alone() -> None:
        for number in range(len(faces)):
            reconstructor.reconstruct(photo, face=number, **options)

    return time_pairs(
        f"{len(faces)} faces of a photo",
        alone,
        lambda: reconstructor.reconstruct_all(photo, **options),
        runs,
        warm_up=1,
    )


def _floor(name: str, call: Callable[[], object], model: HrnModel, runs: int) -> Floor:
    call()  # warm-up, and what is loaded on first use
    whole, networks = [], []
    with _marked(model) as marks:
        for _ in range(runs):
            marks.clear()
            start = time.perf_counter()
            call()
            whole.append(time.perf_counter() - start)
            networks.append(sum(_seconds(*pair) for pair in marks))
    ratio = statistics.median(total / own for total, own in zip(whole, networks, strict=True))
    return Floor(Timing.of(name, whole), Timing.of("networks alone", networks), ratio)


@contextmanager
def _marked(model: HrnModel):
    """A list that gathers the begin and the end of every network call."""
    marks: list[tuple[Mark, Mark]] = []
    begun: list[Mark] = []
    with ExitStack() as hooks:
        for network in _networks(model):
            before = network.register_forward_pre_hook(lambda *_: begun.append(_mark(model.device)))
            after = network.register_forward_hook(lambda *_: marks.append((begun.pop(), _mark(model.device))))
            hooks.callback(before.remove)
            hooks.callback(after.remove)
        yield marks


def _mark(device: torch.device) -> Mark:
    """Now; on CUDA, which is told to work and goes on by itself, when it gets there."""
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(device))
    return event


def _seconds(begin: Mark, end: Mark) -> float:
    if isinstance(begin, float):
        return end - begin
    end.synchronize()
    return begin.elapsed_time(end) / 1000


class _Plain(nn.Module):
    """3D-FAN's archive as a module that takes hooks."""

    def __init__(self, archive: nn.Module):
        super().__init__()
        self.archive = archive

    def forward(self, crops: Tensor):
        return self.archive(crops)


def _networks(model: HrnModel) -> list[nn.Module]:
    own = [model.networks.recon, model.networks.de_retouch, model.networks.mid, model.networks.high]
    if not model.pack.has_detectors:
        return own
    find = model.find_networks
    own += [find.retinaface, find.landmarks106, find.s3fd, find.fan]
    return own + ([model.skin_mask.network] if model.skin_mask.network is not None else [])
