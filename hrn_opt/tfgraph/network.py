"""The skin mask's network, read from its frozen TensorFlow graph."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from hrn_opt.errors import PackForeign
from hrn_opt.tfgraph.graphdef import Attribute, Graph, read_graph
from hrn_opt.tfgraph.program import Argument, Constant, Program, Setting, compile_graph, reference

INPUT_NAME, OUTPUT_NAME = "input_image", "output_alpha"  # as published; the head model's file has other ones
SIZE_PX = 224
NAMES_SHOWN = 4


class GraphProgram(nn.Module):
    """A compiled graph as a module; `.to()` moves and converts its numbers as for any other.

    Its floating constants are parameters, the other ones buffers. Every floating value takes the parameters' precision.
    """

    def __init__(self, program: Program):
        super().__init__()
        self._steps, self._slots, self._output = program.steps, program.slots, program.output
        self.anchor = nn.Parameter(torch.zeros(()), requires_grad=False)  # tells device and precision in every graph
        self._names = [f"constant_{number}" for number in range(len(program.constants))]
        for name, tensor in zip(self._names, program.constants, strict=True):
            if tensor.is_floating_point():
                self.register_parameter(name, nn.Parameter(tensor, requires_grad=False))
            else:
                self.register_buffer(name, tensor)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """The output for one input of the shape the graph was compiled for; values go as soon as nobody needs them."""
        values: list[Tensor | None] = [None] * self._slots
        values[0] = self._in_precision(x)
        for step in self._steps:
            results = step.rule.run(step.attributes, *(self._fetch(values, argument) for argument in step.arguments))
            results = results if isinstance(results, tuple) else (results,)
            for slot, result in zip(step.results, results, strict=True):
                values[slot] = self._in_precision(result)
            for slot in step.frees:
                values[slot] = None
            del results
        return _there(values[self._output])

    def _fetch(self, values: list[Tensor | None], argument: Argument) -> Tensor:
        if isinstance(argument, Setting):
            return argument.value
        if isinstance(argument, Constant):
            constant: Tensor = getattr(self, self._names[argument.index])
            return constant
        value = _there(values[argument.index])
        return argument.layout(value) if argument.layout else value

    def _in_precision(self, x: Tensor) -> Tensor:
        return x.to(self.anchor.dtype) if x.is_floating_point() else x


def _there(value: Tensor | None) -> Tensor:
    assert (
        value is not None
    )  # a step runs after those that fill its inputs, and frees them only after their last reader
    return value


class GraphNetwork(GraphProgram):
    """The skin mask of HRN's pack: segment_face.pb in torch, channels_last, in the precision of its parameters."""

    def __init__(self, graph: Graph):
        node = _checked_input(graph)
        program = compile_graph(graph, node, (SIZE_PX, SIZE_PX, 3), OUTPUT_NAME)
        if [size for size in program.output_shape if size != 1] != [SIZE_PX, SIZE_PX]:
            shape = program.output_shape
            raise PackForeign(f"{graph.file_name} answers {shape}, not one mask of {SIZE_PX}×{SIZE_PX} values.")
        super().__init__(program)
        dtype = next(n.attributes.get("dtype") for n in graph.nodes if n.name == node)
        self._takes_float = dtype in FLOATS

    @classmethod
    def from_file(cls, path: Path) -> GraphNetwork:
        """The network in `path`, on the CPU in float32.

        PackIncomplete without the file, PackDamaged where it is cut or garbled, PackForeign where it is another
        model's, GraphUnsupported where it uses operations that are not built in.
        """
        return cls(read_graph(path))

    def forward(self, image_rgb: Tensor) -> Tensor:
        """Skin mask of one crop.

        image_rgb: (224, 224, 3) uint8, any device. Returns (224, 224) float32, 0 (no skin) to 255 (skin), on the
        network's device.
        """
        if tuple(image_rgb.shape) != (SIZE_PX, SIZE_PX, 3) or image_rgb.dtype != torch.uint8:
            got = f"{tuple(image_rgb.shape)} {image_rgb.dtype}"
            raise ValueError(f"the skin mask's picture must be ({SIZE_PX}, {SIZE_PX}, 3) uint8, got {got}")
        x = image_rgb.to(self.anchor.device)
        alpha = super().forward(x.float() if self._takes_float else x)
        return alpha.reshape(SIZE_PX, SIZE_PX).float()


FLOATS = (1, 2, 14, 19)  # types.proto: the floating kinds


def _checked_input(graph: Graph) -> str:
    """The input's name, after making sure that the graph has the published interface."""
    names = {node.name for node in graph.nodes}
    missing = [name for name in (INPUT_NAME, OUTPUT_NAME) if name not in names]
    if missing:
        raise PackForeign(
            f"{graph.file_name} belongs to another model, or is cut short: it has no {' and no '.join(missing)}, but "
            f"takes {_listed(_placeholders(graph))} and ends in {_listed(_ends(graph))}. HRN's own file is in the pack "
            "iic/cv_resnet50_face-reconstruction."
        )
    shape = next(node.attributes.get("shape") for node in graph.nodes if node.name == INPUT_NAME)
    if shape and not _takes_crop(shape):
        raise PackForeign(f"{graph.file_name} takes pictures of shape {shape}, not ({SIZE_PX}, {SIZE_PX}, 3).")
    return INPUT_NAME


def _takes_crop(shape: Attribute) -> bool:
    if not isinstance(shape, tuple) or len(shape) != 3:
        return False
    return all(a in (-1, b) for a, b in zip(shape, (SIZE_PX, SIZE_PX, 3), strict=True))


def _placeholders(graph: Graph) -> list[str]:
    return [f"{node.name}:0" for node in graph.nodes if node.op.startswith("Placeholder")]


def _ends(graph: Graph) -> list[str]:
    """Operations whose output nobody reads."""
    read = {reference(text.lstrip("^")).node for node in graph.nodes for text in node.inputs}
    return [f"{node.name}:0" for node in graph.nodes if node.name not in read]


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:NAMES_SHOWN]) or "nothing"
    return shown if len(names) <= NAMES_SHOWN else f"{shown} and {len(names) - NAMES_SHOWN} more"
