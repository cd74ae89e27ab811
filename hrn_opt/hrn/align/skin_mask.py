"""The skin mask of an aligned crop, by the best of three routes that this pack and this machine offer.

1. the pack's frozen TensorFlow graph, read into torch (tfgraph/);  2. segment_face.onnx beside it, made once by
tools/convert_mask.py, run by onnxruntime where that is installed;  3. the face's outline from its 68 points.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter
from torch import Tensor

from hrn_opt.errors import PackDamaged, PackError, PackForeign
from hrn_opt.tfgraph import GraphNetwork
from hrn_opt.tfgraph.network import INPUT_NAME, OUTPUT_NAME, SIZE_PX

JAW, BROWS, CHIN = slice(0, 17), slice(17, 27), 8  # of the 68 points, as iBUG numbers them
FOREHEAD = 0.35  # of the height from chin to brows: how much skin the outline takes above the brows
OVERSAMPLING = 4  # the outline is drawn this much larger: smooth edges
SOFT_PX = 2.0  # standard deviation of the outline's edge

Source = Literal["graph", "onnx", "outline"]


@dataclass(frozen=True)
class MaskResult:
    """The mask of one crop, and how it came about.

    values: (224, 224) float32, 0 (no skin) to 255 (skin).
    note: why no better route was taken; empty for the best one.
    """

    values: Tensor
    source: Source
    note: str = ""

    def __post_init__(self) -> None:
        if tuple(self.values.shape) != (SIZE_PX, SIZE_PX) or self.values.dtype != torch.float32:
            got = f"{tuple(self.values.shape)} {self.values.dtype}"
            raise ValueError(f"MaskResult.values must be ({SIZE_PX}, {SIZE_PX}) float32, got {got}")


class OnnxMask:
    """segment_face.onnx by onnxruntime, on the CPU."""

    def __init__(self, path: Path):
        """ImportError without onnxruntime; PackDamaged or PackForeign where the file is not the mask."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what goes wrong is raised; nothing is printed
        try:
            content = path.read_bytes()
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has a class for each cause and no common one
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise PackDamaged(f"{path.name} cannot be loaded ({reason}); run tools/convert_mask.py again.") from error
        inputs = {node.name: node for node in self._session.get_inputs()}
        outputs = [node.name for node in self._session.get_outputs()]
        if list(inputs) != [f"{INPUT_NAME}:0"] or f"{OUTPUT_NAME}:0" not in outputs:
            names = f"{', '.join(inputs) or 'nothing'} and gives {', '.join(outputs)}"
            raise PackForeign(f"{path.name} belongs to another model: it takes {names}.")
        self._dtype = np.float32 if "float" in inputs[f"{INPUT_NAME}:0"].type else np.uint8

    def __call__(self, image_rgb: Tensor) -> Tensor:
        """(224, 224) float32 0..255 on the picture's device, from (224, 224, 3) uint8."""
        crop = image_rgb.cpu().numpy().astype(self._dtype)
        alpha = self._session.run([f"{OUTPUT_NAME}:0"], {f"{INPUT_NAME}:0": crop})[0]
        return torch.from_numpy(alpha.astype(np.float32).reshape(SIZE_PX, SIZE_PX)).to(image_rgb.device)


class SkinMask:
    """The route that a pack allows, chosen once.

    network: the graph's network where that is the route, else None; it goes with the model's other networks through
    `.to()` and offloading.
    source, note: as in MaskResult.
    """

    def __init__(self, network: GraphNetwork | None, onnx: OnnxMask | None, note: str):
        self.network, self._onnx, self.note = network, onnx, note
        self.source: Source = "graph" if network else "onnx" if onnx else "outline"

    @classmethod
    def open(cls, graph: Path, onnx: Path, refusal: str = "") -> SkinMask:
        """The best route that the files, which need not be there, allow; its network is on the CPU in float32.

        Whatever is wrong with one, or missing, leads to the next route, and `note` says what it was.

        refusal: why the graph is not there, where that is known.
        """
        try:
            return cls(GraphNetwork.from_file(graph), None, "")
        except PackError as error:
            reason = refusal or str(error)
        if not onnx.exists():
            return cls(None, None, f"{reason} There is no {onnx.name}.")
        try:
            return cls(None, OnnxMask(onnx), reason)
        except ImportError:
            return cls(None, None, f"{reason} {onnx.name} is there, but onnxruntime is not installed.")
        except PackError as error:
            return cls(None, None, f"{reason} {error}")

    def __call__(self, image_rgb: Tensor, landmarks_xy: Tensor) -> MaskResult:
        """The mask of one aligned crop, on the crop's device.

        image_rgb: (224, 224, 3) uint8.
        landmarks_xy: (68, 2), pixels of the crop, x right, y down; only the outline reads them.
        """
        if self.network is not None:
            values = self.network(image_rgb).to(image_rgb.device)
        elif self._onnx is not None:
            values = self._onnx(image_rgb)
        else:
            values = outline_mask(landmarks_xy).to(image_rgb.device)
        return MaskResult(values, self.source, self.note)


def outline_mask(landmarks_xy: Tensor) -> Tensor:
    """(224, 224) float32 0..255 on the CPU: 255 inside jaw and raised brows, 0 outside, soft in between.

    landmarks_xy: (68, 2), pixels of the 224 px crop, x right, y down, (0.5, 0.5) the centre of the top-left pixel.
    """
    points = landmarks_xy.detach().cpu().double().numpy()
    if points.shape != (68, 2) or not np.isfinite(points).all():
        raise ValueError(f"landmarks_xy must be (68, 2) finite numbers, got {points.shape}")
    brows = points[BROWS]
    raised = brows + FOREHEAD * (brows.mean(axis=0) - points[CHIN])
    corners = np.concatenate([points[JAW], raised[::-1]]) * OVERSAMPLING - 0.5  # PIL counts from pixel centres
    large = Image.new("L", (SIZE_PX * OVERSAMPLING, SIZE_PX * OVERSAMPLING))
    ImageDraw.Draw(large).polygon([tuple(corner) for corner in corners.tolist()], fill=255)
    small = large.reduce(OVERSAMPLING).filter(ImageFilter.GaussianBlur(SOFT_PX))
    return torch.from_numpy(np.array(small, np.float32))
