"""The whole published pipeline, photo in, against this engine: only where everything that it needs can run."""

from __future__ import annotations

import contextlib
import io
from importlib.util import find_spec
from pathlib import Path

import torch

import hrn_opt
from benchmarks.face import PHOTO
from benchmarks.measure import Pair, time_pairs
from benchmarks.official import missing_needs

NEEDS = ("tensorflow", "face_alignment", "nvdiffrast", "pytorch3d")


def why_not(pack: Path | None) -> str:
    """Why it cannot be measured here; empty when it can."""
    missing = [*missing_needs(), *(name for name in NEEDS if find_spec(name) is None)]
    if not torch.cuda.is_available():
        return "the published pipeline runs on CUDA only, and there is no CUDA device here"
    if missing:
        return f"the published pipeline needs {', '.join(missing)} (benchmarks/README.md says how)"
    return "" if pack else "it needs the published weights: ./start.sh fetch, then --pack"


def measure_pipeline(published: Path, prepared: Path, runs: int) -> tuple[Pair, ...]:
    """Finding, previews and turntable included on the published side: they cannot be left out there."""
    from modelscope.pipelines import pipeline

    with contextlib.redirect_stdout(io.StringIO()):
        theirs = pipeline("face-reconstruction", model=str(published))
    pairs = []
    for precision in ("fp32", "fp16"):
        ours = hrn_opt.load(prepared, device="cuda", precision=precision)
        name = f"photo → 256² texture and mesh, {precision}"

        def published_run() -> None:
            with contextlib.redirect_stdout(io.StringIO()):
                theirs(str(PHOTO))

        def our_run(engine=ours) -> None:
            engine.reconstruct(PHOTO, want="mesh", texture_size=256)

        pairs.append(time_pairs(name, published_run, our_run, runs))
    return tuple(pairs)
