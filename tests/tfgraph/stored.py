"""Stored graphs, and programs made of them."""

from pathlib import Path

from hrn_opt.tfgraph.graphdef import parse_graph
from hrn_opt.tfgraph.network import GraphProgram
from hrn_opt.tfgraph.program import compile_graph

DATA = Path(__file__).parents[1] / "data" / "mask"


def program_of(content: bytes, shape: tuple[int, ...]) -> GraphProgram:
    return GraphProgram(compile_graph(parse_graph(content), "input_image", shape, "output_alpha"))
