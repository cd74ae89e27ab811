"""Make tests/data/attention_reference.npz: what MediaPipe itself says about fixed crops of a face.

Run it in an environment of its own, because MediaPipe pins old packages:

    pip install mediapipe==0.10.21 scikit-image
    python tools/mediapipe_reference.py

The crops are handed to MediaPipe's own landmark stage (FaceLandmarkCpu with attention, the stage behind
FaceMesh(refine_landmarks=True)) as 192×192 images with a region that covers them whole, so what is stored is exactly
what its network saw. The photo is scikit-image's astronaut, a NASA portrait in the public domain.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import mediapipe as mp
import numpy as np
from mediapipe.framework.formats.rect_pb2 import NormalizedRect
from skimage import data, transform

SIZE_PX = 192
MODEL = "mediapipe/modules/face_landmark/face_landmark_with_attention.tflite"
DEFAULT_OUTPUT = Path(__file__).parents[1] / "tests" / "data" / "attention_reference.npz"

GRAPH = f"""
input_stream: "image"
input_stream: "region"
input_side_packet: "with_attention"
output_stream: "landmarks"
output_stream: "presence"
node {{
  calculator: "FaceLandmarkCpu"
  input_stream: "IMAGE:image"
  input_stream: "ROI:region"
  input_side_packet: "WITH_ATTENTION:with_attention"
  output_stream: "LANDMARKS:landmarks"
}}
node {{
  calculator: "ImageToTensorCalculator"
  input_stream: "IMAGE:image"
  output_stream: "TENSORS:input"
  options: {{ [mediapipe.ImageToTensorCalculatorOptions.ext] {{
    output_tensor_width: {SIZE_PX} output_tensor_height: {SIZE_PX}
    output_tensor_float_range {{ min: 0.0 max: 1.0 }}
  }} }}
}}
node {{
  calculator: "TfLiteCustomOpResolverCalculator"
  output_side_packet: "OP_RESOLVER:custom_operators"
}}
node {{
  calculator: "InferenceCalculator"
  input_side_packet: "OP_RESOLVER:custom_operators"
  input_stream: "TENSORS:input"
  output_stream: "TENSORS:output"
  options: {{ [mediapipe.InferenceCalculatorOptions.ext] {{
    model_path: "{MODEL}" delegate {{ xnnpack {{}} }}
  }} }}
}}
node {{
  calculator: "SplitTensorVectorCalculator"
  input_stream: "output"
  output_stream: "face_flag"
  options: {{ [mediapipe.SplitVectorCalculatorOptions.ext] {{ ranges: {{ begin: 6 end: 7 }} }} }}
}}
node {{
  calculator: "TensorsToFloatsCalculator"
  input_stream: "TENSORS:face_flag"
  output_stream: "FLOAT:presence"
  options: {{ [mediapipe.TensorsToFloatsCalculatorOptions.ext] {{ activation: SIGMOID }} }}
}}
"""


@dataclass(frozen=True)
class View:
    """One way to look at the astronaut's face, as a square in the photo."""

    centre_xy: tuple[float, float]  # photo pixels
    side_px: float
    roll_deg: float = 0.0
    squeeze: float = 1.0  # width over height, as when the head turns
    tilt: float = 0.0  # perspective: how much smaller the right edge is than the left one
    mirrored: bool = False
    brightness: float = 1.0


VIEWS = (
    View((224, 122), 165),
    View((224, 122), 150, roll_deg=25),
    View((228, 118), 185, roll_deg=-40, brightness=0.5),
    View((218, 128), 140, mirrored=True),
    View((224, 122), 165, squeeze=0.7, roll_deg=8),
    View((224, 122), 170, tilt=0.35, mirrored=True),
    View((250, 122), 105),  # a tenth of the left eye's crop lies past the border
)


def crop(photo: np.ndarray, view: View) -> np.ndarray:
    """(192, 192, 3) uint8."""
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], float) / 2  # of the crop, clockwise from the top left
    corners *= 1 + view.tilt * (corners[:, :1] > 0)
    corners[:, 0] *= -1 if view.mirrored else 1
    corners *= view.side_px
    corners[:, 0] /= view.squeeze
    roll = np.deg2rad(view.roll_deg)
    rotation = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    in_photo = corners @ rotation.T + view.centre_xy
    in_crop = np.array([[0, 0], [SIZE_PX, 0], [SIZE_PX, SIZE_PX], [0, SIZE_PX]], float) - 0.5
    crop_to_photo = transform.ProjectiveTransform.from_estimate(in_crop, in_photo - 0.5)
    warped = transform.warp(photo, crop_to_photo, output_shape=(SIZE_PX, SIZE_PX), mode="edge")
    return np.rint(warped * view.brightness * 255).astype(np.uint8)


@dataclass(frozen=True)
class Reference:
    """MediaPipe's answer for one crop: (478, 3) points in crop pixels, and the probability of a face."""

    points: np.ndarray
    presence: float


def reference(image: np.ndarray) -> Reference:
    """MediaPipe's points for one (192, 192, 3) uint8 crop."""
    received = {}
    graph = mp.CalculatorGraph(graph_config=GRAPH)
    for stream in ("landmarks", "presence"):
        graph.observe_output_stream(stream, received.__setitem__)
    graph.start_run({"with_attention": mp.packet_creator.create_bool(True)})
    frame = mp.ImageFrame(image_format=mp.ImageFormat.SRGB, data=image)
    whole = NormalizedRect(x_center=0.5, y_center=0.5, width=1, height=1)
    graph.add_packet_to_input_stream("image", mp.packet_creator.create_image_frame(frame).at(0))
    graph.add_packet_to_input_stream("region", mp.packet_creator.create_proto(whole).at(0))
    graph.close_all_packet_sources()
    graph.wait_until_done()
    landmarks = mp.packet_getter.get_proto(received["landmarks"]).landmark
    points = np.array([[point.x, point.y, point.z] for point in landmarks], np.float32)
    return Reference(points * SIZE_PX, mp.packet_getter.get_float(received["presence"]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT)
    output = parser.parse_args().output
    mp.resource_util.set_resource_dir(str(Path(mp.__file__).parents[1]))
    photo = data.astronaut()
    crops = np.stack([crop(photo, view) for view in VIEWS])
    references = [reference(image) for image in crops]
    points = np.stack([found.points for found in references])
    presence = np.array([found.presence for found in references], np.float32)
    np.savez_compressed(output, crops=crops, points=points, presence=presence)
    print(f"{output}: {output.stat().st_size:,} bytes, MediaPipe {mp.__version__}, presence {presence}")


if __name__ == "__main__":
    main()
