"""Graph files that are cut, garbled or lie about their sizes."""

import resource
import struct

import numpy as np
import pytest

from hrn_opt.errors import PackDamaged, PackError
from hrn_opt.tfgraph import GraphNetwork
from hrn_opt.tfgraph.graphdef import parse_graph
from hrn_opt.tfgraph.wire import WireError, read_fields
from testing.synthetic_pack.mask_graph import FLOAT, GraphWriter, TypeCode, shape_bytes
from testing.synthetic_pack.wire import field_bytes, varint_bytes
from tests.tfgraph.stored import DATA, program_of


@pytest.mark.parametrize("name", ["unet", "written", "deeplab"])
def test_file_cut_anywhere_is_refused(name):
    """Between two operations a cut cannot be told from another model's end: real files may lack a closing record."""
    content = (DATA / f"{name}.pb").read_bytes()
    for percent in range(100):
        with pytest.raises(PackError, match=r"the graph.*(etch the pack again|or is cut short)"):
            GraphNetwork(parse_graph(content[: len(content) * percent // 100]))


def test_garbled_bytes_never_raise_anything_else(masks):
    """A wrong byte in a weight cannot be seen; anywhere else it must be a PackError, and never hang or crash."""
    content, random = (DATA / "written.pb").read_bytes(), np.random.default_rng(2)
    refused = 0
    for _ in range(150):
        garbled = bytearray(content)
        for place in random.integers(0, len(content), random.integers(1, 4)):
            garbled[place] = random.integers(0, 256)
        try:
            GraphNetwork(parse_graph(bytes(garbled)))
        except PackError as error:
            refused += 1
            assert len(str(error)) > 40
    assert refused > 40


@pytest.mark.parametrize(
    "content",
    [
        b"\x00" * 64,
        b"<html>not found</html>",
        b"\xff" * 50,
        b"version https://git-lfs.github.com/spec/v1\n",
        b"\x22\x00",
    ],
)
def test_no_graph_at_all_is_damaged(content):
    with pytest.raises(PackDamaged, match="etch the pack again"):
        GraphNetwork(parse_graph(content))


def test_huge_claims_are_refused_without_the_memory():
    """1.2e9 numbers by Fill and by Tile: refused before they are made."""
    for op, count in (("Fill", 1_200_000_000), ("Tile", 1_200_000_000)):
        graph = GraphWriter()
        x = graph.node("Placeholder", "input_image", dtype=TypeCode(FLOAT), shape=(1,))
        size = graph.constant("size", np.array([count], np.int32))
        one = graph.constant("one", np.array(1 if op == "Fill" else [1], np.float32))
        many = graph.node(op, "many", *((size, one) if op == "Fill" else (one, size)))
        graph.node("AddV2", "output_alpha", x, many)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(PackDamaged, match="many"):
            program_of(graph.content(), (1,))
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # KiB; the tensor has 4,700,000


def listed_constant(kind: int, shape: tuple[int, ...], *fields: bytes) -> np.ndarray:
    """What the reader makes of a constant whose numbers are listed, rather than stored as one block of bytes."""
    tensor = field_bytes(1, kind) + field_bytes(2, shape_bytes(shape)) + b"".join(fields)
    attribute = field_bytes(1, "value") + field_bytes(2, field_bytes(8, tensor))
    node = field_bytes(1, "c") + field_bytes(2, "Const") + field_bytes(5, attribute)
    return parse_graph(field_bytes(1, node)).nodes[0].attributes["value"]


@pytest.mark.parametrize(
    "kind,fields,expected",
    [
        (1, [field_bytes(5, 1.5), field_bytes(5, -2.0)], [1.5, -2, -2, -2]),  # the last one goes on
        (1, [field_bytes(5, struct.pack("<4f", 1, 2, 3, 4))], [1, 2, 3, 4]),  # packed
        (2, [field_bytes(6, struct.pack("<2d", 0.5, 4))], [0.5, 4, 4, 4]),
        (3, [field_bytes(7, -3)], [-3, -3, -3, -3]),
        (9, [field_bytes(10, b"".join(map(varint_bytes, (-5, 1 << 40))))], [-5, 1 << 40, 1 << 40, 1 << 40]),
        (10, [field_bytes(11, 1), field_bytes(11, 0)], [True, False, False, False]),
        (14, [field_bytes(13, 0x3FC0)], [1.5, 1.5, 1.5, 1.5]),  # bits of a bfloat16
        (19, [field_bytes(13, 0x3E00), field_bytes(13, 0xC000)], [1.5, -2, -2, -2]),  # bits of a half
        (1, [], [0, 0, 0, 0]),
    ],
)
def test_listed_constants(kind, fields, expected):
    assert listed_constant(kind, (2, 2), *fields).tolist() == [expected[:2], expected[2:]]


def test_more_numbers_than_the_shape_holds_are_damage():
    with pytest.raises(PackDamaged, match="with 5 numbers"):
        listed_constant(1, (2, 2), field_bytes(5, struct.pack("<5f", *range(5))))


def test_field_longer_than_the_file_is_an_error():
    with pytest.raises(WireError, match="3 bytes are announced at byte 2, 2 are there"):
        list(read_fields(memoryview(field_bytes(1, b"abc")[:-1])))


def test_cycle_is_damaged():
    graph = GraphWriter()
    graph.node("Placeholder", "input_image", dtype=TypeCode(FLOAT), shape=(1,))
    graph.node("AddV2", "output_alpha", "input_image", "again")
    graph.node("Relu", "again", "output_alpha")
    with pytest.raises(PackDamaged, match="waits for itself"):
        program_of(graph.content(), (1,))
