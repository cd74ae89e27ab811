"""One rung of the ladder in a process of its own: `python -m benchmarks.rung NAME`, told what to do over its input.

A line of JSON answers each line that comes in: "run" makes the photo's texture once, "result FILE" writes what came
out and says how much memory it took, the end of the input ends the process.
"""

from __future__ import annotations

import time

STARTED = time.perf_counter()  # before torch is imported: a rung's own start is part of what it costs

import argparse  # noqa: E402
import json  # noqa: E402
import sys  # noqa: E402
from collections.abc import Callable  # noqa: E402
from dataclasses import dataclass  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402

import hrn_opt  # noqa: E402
from benchmarks.face import LANDMARKS, PHOTO, SKIN  # noqa: E402
from benchmarks.measure import peak_rss_mb  # noqa: E402
from benchmarks.official import OfficialModel, Step  # noqa: E402
from hrn_opt.hrn.frames import UV_PX  # noqa: E402
from hrn_opt.hrn.pack.prepared import open_prepared  # noqa: E402
from hrn_opt.runtime import keep_freed_memory, parse_device  # noqa: E402

OFFICIAL = "official"
Texture = Callable[[], dict[str, np.ndarray]]


@dataclass(frozen=True)
class RungSpec:
    """steps: of the published model.
    engine: the options of hrn_opt.load instead.
    """

    name: str
    what: str
    steps: tuple[Step, ...] = ()
    engine: dict | None = None


def ladder(device: torch.device) -> tuple[RungSpec, ...]:
    """From the published model to the engine, each rung with everything below it."""
    steps = tuple(Step)
    half = "bf16" if device.type == "cpu" else "fp16"
    rungs = [RungSpec(OFFICIAL, "the published model class as it is")]
    for count, step in enumerate(steps, 1):
        rungs.append(RungSpec(step.name.lower().replace("_", "-"), step.value, steps[:count]))
    whole = "the engine: prepared pack, halved albedo basis, UV maps gathered in one kernel, no gradients"
    rungs.append(RungSpec("engine", whole, engine={"precision": "fp32"}))
    rungs.append(RungSpec(half, f"{half} in the two large networks", engine={"precision": half}))
    if device.type == "cuda":
        for budget in (1.0, 0.5):
            what = f"{half} within {budget} GiB of the device, by accelerate's device map"
            rungs.append(RungSpec(f"{half}-{budget}GiB", what, engine={"precision": half, "memory": budget}))
    return tuple(rungs)


def make(spec: RungSpec, published: Path, prepared: Path, device: torch.device) -> tuple[Texture, OfficialModel | None]:
    """What makes the texture, loaded, and the published model in it."""
    if spec.engine is None:
        model = OfficialModel(published, open_prepared(prepared), device, frozenset(spec.steps))
        rgb = hrn_opt.open_photo(PHOTO).rgb
        return lambda: model.texture(rgb, LANDMARKS, SKIN), model
    keep_freed_memory()  # as the app and the command line do
    reconstructor = hrn_opt.load(prepared, device=str(device), **spec.engine)
    photo = hrn_opt.open_photo(PHOTO)
    known = {
        "landmarks": LANDMARKS + 0.5,  # the published code counts from pixel centres
        "skin_mask": SKIN,
        "cheek_widening": 0.0,
    }

    def texture(want: str = "texture") -> dict[str, np.ndarray]:
        made = reconstructor.reconstruct(photo, want=want, texture_size=UV_PX, **known)
        vertices = {"vertices": made.mesh.vertices.numpy()} if made.mesh else {}
        return {"texture": made.texture_256.numpy(), **vertices}

    return texture, None


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rung")
    parser.add_argument("name")
    parser.add_argument("--published", type=Path, required=True)
    parser.add_argument("--prepared", type=Path, required=True)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    device = parse_device(args.device)
    spec = next(spec for spec in ladder(device) if spec.name == args.name)
    imported_s = time.perf_counter() - STARTED
    start = time.perf_counter()
    texture, official = make(spec, args.published, args.prepared, device)
    loaded_s = time.perf_counter() - start
    stand_ins = official.stand_ins if official else []
    _answer(import_s=imported_s, load_s=loaded_s, stand_ins=stand_ins)
    for line in sys.stdin:
        command, _, path = line.strip().partition(" ")
        if command == "run":
            start = time.perf_counter()
            texture()
            _answer(seconds=time.perf_counter() - start)
        elif command == "result":
            memory = {"peak_rss_mb": peak_rss_mb(), **_cuda_memory(device)}
            calls = official.uv_calls if official else 0
            made = texture() if official else texture("mesh")
            np.savez(path, **made)
            _answer(**memory, uv_calls=official.uv_calls - calls if official else 0)
    return 0


def _answer(**values) -> None:
    print(json.dumps(values), flush=True)


def _cuda_memory(device: torch.device) -> dict[str, float]:
    if device.type != "cuda":
        return {}
    allocated, reserved = torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device)
    return {"cuda_allocated_mb": allocated / 1e6, "cuda_reserved_mb": reserved / 1e6}


if __name__ == "__main__":
    sys.exit(main())
