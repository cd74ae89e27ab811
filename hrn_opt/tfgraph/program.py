"""A graph turned into a list of steps: what depends on sizes and constants only is worked out once, here.

The steps are found by running the graph on torch's `meta` device, which knows shapes but no numbers. Whatever comes
out with numbers (weights that pass through Identity, sizes taken from Shape, settings such as is_training) depends on
no pixel, so it becomes a constant; whatever comes out without them becomes a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from hrn_opt.errors import PackDamaged
from hrn_opt.tfgraph.errors import GraphUnsupported, NotBuiltIn
from hrn_opt.tfgraph.graphdef import MAX_ELEMENTS, Attributes, Graph, Node
from hrn_opt.tfgraph.ops import BRANCHES, OPS, SOURCES, Rule
from hrn_opt.tfgraph.shaping import torch_dtype

MAX_CONSTANT_BYTES = 1 << 30
UINT8 = 4  # types.proto
KNOWN = OPS.keys() | SOURCES | BRANCHES
REMEDY = (
    "Convert the file with tools/convert_mask.py and put segment_face.onnx beside it (needs onnxruntime), "
    "or go on with the mask from the face's outline."
)
# What torch raises for tensors that do not fit together; with a whole file of the right kind none of them can occur.
MISFITS = (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)

Layout = Callable[[Tensor], Tensor]  # a tensor's numbers in another memory order


@dataclass(frozen=True)
class Slot:
    """A value that a step makes. layout: the memory order its reader wants, None for the usual one."""

    index: int
    layout: Layout | None = None


@dataclass(frozen=True)
class Constant:
    """A number of `Program.constants`, on the network's device and in its precision."""

    index: int


@dataclass(frozen=True)
class Setting:
    """A size, axis or offset, on the CPU whatever the device."""

    value: Tensor


Argument = Slot | Constant | Setting


@dataclass(frozen=True)
class Step:
    """One operation on values that depend on the picture.

    results: slots it fills, in the order of its outputs.
    frees: slots that nobody reads after it.
    """

    name: str
    rule: Rule
    attributes: Attributes
    arguments: tuple[Argument, ...]
    results: tuple[int, ...]
    frees: tuple[int, ...]


@dataclass(frozen=True)
class Program:
    """What is left of a graph.

    constants: CPU tensors; floating ones are float32.   Slot 0 holds the input, slot `output` the output.
    output_shape: of the output, for the input shape that was asked for.
    """

    constants: tuple[Tensor, ...]
    steps: tuple[Step, ...]
    slots: int
    output: int
    output_shape: tuple[int, ...]


class _Dead:
    """What comes out of the branch that a constant condition rules out."""


DEAD = _Dead()


@dataclass(frozen=True)
class _Unknown:
    """What depends on operations that are not built in; refused only where the mask depends on it, too."""

    ops: frozenset[str]


@dataclass(frozen=True)
class Reference:
    """One output of one node."""

    node: str
    output: int


def reference(text: str) -> Reference:
    name, colon, number = text.rpartition(":")
    return Reference(name, int(number)) if colon and number.isdigit() else Reference(text, 0)


def compile_graph(graph: Graph, input_name: str, input_shape: tuple[int, ...], output_name: str) -> Program:
    """The steps from `input_name` (its shape fixed) to `output_name` (without ":0").

    Unknown operations are refused by name; a graph that does not fit together, or is misread, is PackDamaged.
    """
    nodes = {node.name: node for node in graph.nodes}
    order = _needed(graph, nodes, output_name)
    compiler = _Compiler(graph.file_name, input_name, input_shape)
    for node in _sorted(graph, nodes, order, output_name):
        try:
            compiler.add(node)
        except NotBuiltIn as error:
            where = f"{graph.file_name} uses what is not built in, in {node.name} ({node.op})"
            raise GraphUnsupported(f"{where}: {error}. {REMEDY}") from error
        except MISFITS as error:
            first_line = (str(error).splitlines() or [type(error).__name__])[0]
            where = f"operation {node.name} ({node.op}) of {', '.join(node.inputs) or 'nothing'}"
            misfit = f"{where} does not fit what goes in ({first_line}); the file is damaged, or misread."
            raise PackDamaged(f"{graph.file_name}: {misfit}") from error
    return compiler.program(output_name)


def _inputs(node: Node) -> list[Reference]:
    return [reference(text) for text in node.inputs if not text.startswith("^")]


def _needed(graph: Graph, nodes: dict[str, Node], output_name: str) -> list[Node]:
    """Every node that the output depends on."""
    found, waiting = {}, [output_name]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        if name not in nodes:
            raise PackDamaged(f"{graph.file_name} is cut short: operation {name} is not in it. Fetch the pack again.")
        found[name] = nodes[name]
        waiting.extend(source.node for source in _inputs(nodes[name]))
    return list(found.values())


def _refuse_unknown(graph: Graph, needed: list[Node]) -> None:
    unknown = {node.op for node in needed} - KNOWN
    if unknown:
        raise _unsupported(graph.file_name, unknown)


def _unsupported(file_name: str, ops: Iterable[str]) -> GraphUnsupported:
    names = ", ".join(sorted(ops))
    return GraphUnsupported(f"{file_name} needs operations that are not built in: {names}. {REMEDY}")


def _sorted(graph: Graph, nodes: dict[str, Node], needed: list[Node], output_name: str) -> list[Node]:
    """The needed nodes, each after its inputs."""
    done, order, waiting = set(), [], [output_name]
    opened = set()
    while waiting:
        name = waiting[-1]
        missing = [source.node for source in _inputs(nodes[name]) if source.node not in done]
        if name in done or not missing:
            waiting.pop()
            if name not in done:
                order.append(nodes[name])
            done.add(name)
            continue
        if name in opened:
            _refuse_unknown(graph, needed)  # loops are cycles with operations of their own
            raise PackDamaged(f"{graph.file_name} is damaged: {name} waits for itself. Fetch the pack again.")
        opened.add(name)
        waiting.extend(missing)
    assert len(order) == len(needed)
    return order


@dataclass(frozen=True, eq=False)
class _Value:
    """One output while the graph is worked out: without numbers it fills a slot, with numbers it is known."""

    tensor: Tensor
    slot: int | None = None


Outcome = _Value | _Dead | _Unknown


@dataclass
class _Compiler:
    """Collects steps and constants, one node after the other."""

    file_name: str
    input_name: str
    input_shape: tuple[int, ...]
    values: dict[Reference, Outcome] = field(default_factory=dict)
    constants: dict[tuple[_Value, Layout | None], Constant] = field(default_factory=dict)
    tensors: list[Tensor] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    slots: int = 0
    known: set[int] = field(default_factory=set)  # storages of known values
    known_bytes: int = 0

    def add(self, node: Node) -> None:
        """Works the node out, or makes a step of it."""
        for number, value in enumerate(self._outputs(node)):
            self.values[Reference(node.name, number)] = value

    def _outputs(self, node: Node) -> Sequence[Outcome]:
        if node.name == self.input_name:
            return [self._value(torch.empty(self.input_shape, dtype=_input_dtype(node), device="meta"))]
        if node.op == "Const":
            return [self._value(_constant(node))]
        if node.op == "Placeholder":
            raise NotBuiltIn("a further input")
        inputs = [self._read(source) for source in _inputs(node)]
        if node.op == "PlaceholderWithDefault":
            return inputs[:1]
        unknown = frozenset().union(*(value.ops for value in inputs if isinstance(value, _Unknown)))
        if node.op.endswith("Merge"):
            return self._merge(inputs)
        if DEAD in inputs:
            return [DEAD]
        if unknown or node.op not in KNOWN:
            return [_Unknown(unknown | ({node.op} - KNOWN))]
        values = [value for value in inputs if isinstance(value, _Value)]  # all of them: the others have returned
        if node.op.endswith("Switch"):
            return self._switch(*values)
        return self._operation(node, values)

    def _value(self, tensor: Tensor) -> _Value:
        if tensor.is_meta:
            self.slots += 1
            return _Value(tensor, self.slots - 1)
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.known:
            self.known.add(storage.data_ptr())
            self.known_bytes += storage.nbytes()
        if self.known_bytes > MAX_CONSTANT_BYTES:
            raise MemoryError(f"constants of over {MAX_CONSTANT_BYTES >> 30} GiB")
        return _Value(tensor)

    def _read(self, source: Reference) -> Outcome:
        if source in self.values:
            return self.values[source]
        first = self.values[Reference(source.node, 0)]
        if not isinstance(first, _Value):  # stands for every output of its node
            return first
        raise NotBuiltIn(f"output {source.output} of {source.node}")

    def _switch(self, taken: _Value, condition: _Value) -> tuple[Outcome, Outcome]:
        """A branch whose condition is a constant (is_training, for one) is no branch; others are refused."""
        if condition.slot is not None:
            raise NotBuiltIn("Switch and Merge on what the picture shows")
        return (DEAD, taken) if bool(condition.tensor) else (taken, DEAD)

    def _merge(self, branches: list[Outcome]) -> list[Outcome]:
        alive = [number for number, value in enumerate(branches) if value is not DEAD]
        if len(alive) > 1:
            raise NotBuiltIn("two live branches")
        if not alive or isinstance(branches[alive[0]], _Unknown):
            return [branches[alive[0]] if alive else DEAD]
        return [branches[alive[0]], self._value(torch.tensor(alive[0]))]

    def _operation(self, node: Node, inputs: list[_Value]) -> list[_Value]:
        rule = OPS[node.op]
        static = {number % max(len(inputs), 1) for number in rule.static}
        if any(inputs[number].slot is not None for number in static if number < len(inputs)):
            raise NotBuiltIn("a size that depends on what the picture shows")
        tensors = [value.tensor for value in inputs]
        shapes = [tensor if number in static else tensor.to("meta") for number, tensor in enumerate(tensors)]
        sketch = replace(rule, run=rule.sketch or rule.run)
        results = _run(sketch, node.attributes, shapes)  # before the numbers: says whether they would fit in memory
        if max((result.numel() for result in results), default=0) > MAX_ELEMENTS:
            raise MemoryError("a tensor of over a GiB comes out")
        if all(value.slot is None for value in inputs):
            results = _run(rule, node.attributes, tensors)
        outputs = [self._value(result) for result in results]
        if any(value.slot is not None for value in outputs):
            self._add_step(node, rule, inputs, static, outputs)
        return outputs

    def _add_step(self, node: Node, rule: Rule, inputs: list[_Value], static: set[int], outputs: list[_Value]) -> None:
        arguments: list[Argument] = []
        for number, value in enumerate(inputs):
            layout = rule.layouts.get(number)
            if value.slot is not None:
                arguments.append(Slot(value.slot, layout))
            elif number in static:
                arguments.append(Setting(value.tensor))
            else:
                arguments.append(self._constant(value, layout))
        results = tuple(value.slot for value in outputs if value.slot is not None)
        self.steps.append(Step(node.name, rule, node.attributes, tuple(arguments), results, ()))

    def _constant(self, value: _Value, layout: Layout | None) -> Constant:
        if (value, layout) not in self.constants:
            self.constants[value, layout] = Constant(len(self.tensors))
            self.tensors.append(layout(value.tensor) if layout else value.tensor)
        return self.constants[value, layout]

    def program(self, output_name: str) -> Program:
        value = self.values[Reference(output_name, 0)]
        if isinstance(value, _Unknown):
            raise _unsupported(self.file_name, value.ops)
        if isinstance(value, _Dead) or value.slot is None:
            raise PackDamaged(f"{self.file_name}: {output_name} does not depend on the picture. Fetch the pack again.")
        steps = _with_frees(self.steps, value.slot)
        return Program(tuple(self.tensors), steps, self.slots, value.slot, tuple(value.tensor.shape))


def _input_dtype(node: Node) -> torch.dtype:
    return torch_dtype(node.attributes, "dtype", UINT8)


def _constant(node: Node) -> Tensor:
    array = node.attributes.get("value")
    if not isinstance(array, np.ndarray):
        return torch.zeros(0)  # text, for assertions and summaries that no pixel depends on
    return torch.from_numpy(np.array(array))  # a copy, so that the file's bytes can go


def _run(rule: Rule, attributes: Attributes, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    laid_out = [rule.layouts[n](tensor) if n in rule.layouts else tensor for n, tensor in enumerate(inputs)]
    results = rule.run(attributes, *laid_out)
    return results if isinstance(results, tuple) else (results,)


def _with_frees(steps: list[Step], output: int) -> tuple[Step, ...]:
    """The same steps; each says which slots nobody reads any more."""
    read_later, finished = {output}, []
    for step in reversed(steps):
        touched = {argument.index for argument in step.arguments if isinstance(argument, Slot)} | set(step.results)
        finished.append(replace(step, frees=tuple(sorted(touched - read_later))))
        read_later |= touched
    return tuple(reversed(finished))
