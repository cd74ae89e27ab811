"""HRN's skin mask as an ONNX file, for packs whose segment_face.pb has operations that hrn_opt does not read itself.

    python -m venv tf && tf/bin/pip install tensorflow-cpu==2.21.0 tf2onnx==1.17.0 onnxruntime
    tf/bin/python tools/convert_mask.py PACK/segment_face.pb

writes PACK/segment_face.onnx, which hrn_opt then runs by onnxruntime. Use an environment of its own (1.7 GB): nothing
of TensorFlow is needed afterwards. tf2onnx ends without an error even when what it wrote cannot be loaded, so the file
is loaded, run, and compared with TensorFlow on three pictures before it gets its name. Graphs with control flow convert
only when their input's sizes are left open: `--inputs 'input_image:0[-1,-1,3]'`, tried by itself when the first way
fails.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

INPUT, OUTPUT = "input_image:0", "output_alpha:0"
OPEN_SIZES = f"{INPUT}[-1,-1,3]"
OPSET = 17
SIZE_PX = 224
MAX_ERROR = 0.255  # of 0..255: a thousandth; a conversion that went wrong is off by tens
MAX_FLIPPED = 1e-3  # share of values that may be off by more, where the mask is a yes or no


class ConversionFailed(Exception):
    """The file does not convert this way; the message says how far it came."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="segment_face.pb")
    parser.add_argument("target", type=Path, nargs="?", help="default: segment_face.onnx beside it")
    parser.add_argument("--inputs", help=f"what to tell tf2onnx; default: {INPUT}, then {OPEN_SIZES}")
    options = parser.parse_args()
    target = options.target or options.source.with_suffix(".onnx")
    for inputs in [options.inputs] if options.inputs else [INPUT, OPEN_SIZES]:
        try:
            error = convert(options.source, target, inputs)
        except ConversionFailed as failure:
            print(f"--inputs '{inputs}': {failure}", file=sys.stderr)
            continue
        print(f"{target}: {target.stat().st_size} bytes, at most {error:.2g} of 255 from TensorFlow")
        return 0
    return 1


def convert(source: Path, target: Path, inputs: str) -> float:
    """The largest difference from TensorFlow; `target` is there only when that is small."""
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        fresh = Path(folder) / "fresh.onnx"
        command = [sys.executable, "-m", "tf2onnx.convert", "--graphdef", str(source), "--output", str(fresh)]
        command += ["--inputs", inputs, "--outputs", OUTPUT, "--opset", str(OPSET)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode or not fresh.exists():
            raise ConversionFailed(f"tf2onnx failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
        error = compare(source, fresh)
        fresh.replace(target)
    return error


def compare(source: Path, fresh: Path) -> float:
    """The largest difference between the two files' masks; ConversionFailed where they are not one network."""
    images = pictures()
    try:
        ours = run_onnx(fresh, images)
    except Exception as error:  # onnxruntime has no common class for its errors
        raise ConversionFailed(f"tf2onnx wrote a file that does not run: {str(error).splitlines()[0]}") from error
    theirs = run_tensorflow(source, images)
    if ours.shape != theirs.shape:
        raise ConversionFailed(f"the converted file answers {ours.shape}, TensorFlow {theirs.shape}")
    differences = np.abs(ours - theirs)
    if not (differences > MAX_ERROR).mean() <= MAX_FLIPPED:
        raise ConversionFailed(f"the converted file is up to {differences.max():.1f} of 255 off")
    return float(differences.max())


def pictures() -> list[np.ndarray]:
    """Dark, bright and colourful, so that branches on the content go both ways."""
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (SIZE_PX, SIZE_PX, 3))
    return [(noise * scale + offset).astype(np.uint8) for scale, offset in ((0.2, 0), (0.2, 200), (1, 0))]


def run_onnx(path: Path, images: list[np.ndarray]) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    wanted = np.float32 if "float" in session.get_inputs()[0].type else np.uint8
    return np.stack([session.run([OUTPUT], {INPUT: image.astype(wanted)})[0] for image in images]).astype(np.float64)


def run_tensorflow(path: Path, images: list[np.ndarray]) -> np.ndarray:
    import tensorflow as tf

    definition = tf.compat.v1.GraphDef.FromString(path.read_bytes())
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(definition, name="")
        with tf.compat.v1.Session(graph=graph) as session:
            masks = [session.run(OUTPUT, {INPUT: image}) for image in images]
    return np.stack(masks).astype(np.float64)


if __name__ == "__main__":
    sys.exit(main())
