"""HRN on this machine: from landmarks to texture against the sum of its networks' own times, in the same run.

Without the published weights a full-size synthetic pack stands in: the same networks with seeded random numbers, so
the same work.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor, nn

import hrn_opt
from benchmarks.embedded import PHOTO
from benchmarks.measure import Timing
from hrn_opt.hrn.model import HrnModel
from hrn_opt.hrn.prepare import prepare
from hrn_opt.hrn.prepared import is_prepared
from hrn_opt.hrn.synthetic import write_pack

OFFICIAL_SIZE, LARGE_SIZE = 256, 1024


@dataclass(frozen=True)
class Floor:
    """One way through HRN.

    whole, networks: seconds.   ratio: median over the runs of whole / networks, pair by pair.
    """

    whole: Timing
    networks: Timing
    ratio: float


@dataclass(frozen=True)
class HrnResult:
    pack: str
    precision: str
    load_s: float
    floors: tuple[Floor, ...]
    stages: tuple[Timing, ...]


def measure_hrn(pack: Path | None, precision: str, runs: int) -> HrnResult:
    """pack: a published or prepared folder; None for a full-size synthetic one, made and thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        prepared = _prepared(pack, Path(folder))
        start = time.perf_counter()
        reconstructor = hrn_opt.load(prepared, precision=precision)
        load_s = time.perf_counter() - start
        return _measured(reconstructor, "synthetic, full size" if pack is None else pack.name, precision, load_s, runs)


def _prepared(pack: Path | None, folder: Path) -> Path:
    if pack is not None and is_prepared(pack):
        return pack
    published = pack or write_pack(folder / "published", seed=1, size="full")
    return prepare(published, folder / "prepared")


def _measured(reconstructor, pack: str, precision: str, load_s: float, runs: int) -> HrnResult:
    model: HrnModel = reconstructor._model
    if model.pack.has_detectors:
        model.__dict__["find_networks"] = replace(model.find_networks, fan=_Plain(model.find_networks.fan))
    photo = hrn_opt.open_photo(PHOTO)
    stages: dict[str, list[float]] = {}
    known = {"landmarks": _landmarks(), "skin_mask": np.full((224, 224), 255, np.uint8), "face_widening": 0.0}

    def given(size: int) -> Callable[[], object]:
        return lambda: reconstructor.reconstruct(photo, want="texture", texture_size=size, **known)

    def found() -> None:
        for timing in reconstructor.reconstruct(photo, want="texture", texture_size=OFFICIAL_SIZE).timings:
            stages.setdefault(timing.stage.value, []).append(timing.seconds)

    floors = [_floor(f"landmarks → {size}² texture", given(size), model, runs) for size in (OFFICIAL_SIZE, LARGE_SIZE)]
    if model.pack.has_detectors:
        floors.append(_floor(f"photo → {OFFICIAL_SIZE}² texture, finding and widening included", found, model, runs))
    return HrnResult(
        pack, precision, load_s, tuple(floors), tuple(Timing.of(name, s[-runs:]) for name, s in stages.items())
    )


def _floor(name: str, call: Callable[[], object], model: HrnModel, runs: int) -> Floor:
    call()  # warm-up, and what is loaded on first use
    whole, networks = [], []
    with _timed(model) as spent:
        for _ in range(runs):
            spent.clear()
            start = time.perf_counter()
            call()
            whole.append(time.perf_counter() - start)
            networks.append(sum(spent))
    ratio = statistics.median(total / own for total, own in zip(whole, networks, strict=True))
    return Floor(Timing.of(name, whole), Timing.of("networks alone", networks), ratio)


@contextmanager
def _timed(model: HrnModel):
    """A list that gathers the seconds of every network call."""
    spent: list[float] = []
    started: list[float] = []
    with ExitStack() as hooks:
        for network in _networks(model):
            before = network.register_forward_pre_hook(lambda *_: started.append(time.perf_counter()))
            after = network.register_forward_hook(lambda *_: spent.append(time.perf_counter() - started.pop()))
            hooks.callback(before.remove)
            hooks.callback(after.remove)
        yield spent


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


def _landmarks() -> np.ndarray:
    """(68, 2) about where the example photo's face is: only the crop's scale depends on it."""
    ring = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    points = np.stack([225 + 45 * np.cos(ring), 125 + 50 * np.sin(ring)], 1)
    points[[36, 39, 42, 45]] = [[192, 105], [212, 105], [238, 105], [258, 105]]
    points[[30, 48, 54]] = [[225, 130], [207, 152], [243, 152]]
    return points
