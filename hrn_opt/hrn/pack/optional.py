"""The pack's optional files, tried: one that cannot be used is left out, and a note says why. None stops anything."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import torch

from hrn_opt.errors import PackError
from hrn_opt.hrn.pack import published as pack

log = logging.getLogger(__name__)

_OPERATIONS_SHOWN = 60  # kinds; a graph has 20 to 50


def refused_files(report: pack.PackReport) -> dict[str, str]:
    """Why the skin mask's graph and the landmark network, which are kept as published, cannot be used, by path."""
    notes = {}
    if pack.FAN_ARCHIVE in report.sizes:
        try:
            pack.check_archive(report.folder / pack.FAN_ARCHIVE)
        except PackError as error:
            notes[pack.FAN_ARCHIVE] = str(error)
    if pack.MASK_GRAPH in report.sizes and (why := _why_no_mask(report.folder / pack.MASK_GRAPH)):
        notes[pack.MASK_GRAPH] = why
    return notes


def _why_no_mask(path: Path) -> str:
    """Why the graph gives no skin mask: it is read, worked out and run once; "" where it does."""
    # Several times as much code to import as this module.
    from hrn_opt.tfgraph import GraphNetwork
    from hrn_opt.tfgraph.network import SIZE_PX

    try:
        with torch.inference_mode():
            GraphNetwork.from_file(path)(torch.full((SIZE_PX, SIZE_PX, 3), 128, dtype=torch.uint8))
    except PackError as error:
        return f"{error} {operations_of(path)}".strip()
    except Exception as error:  # a boundary: a rule that misreads a real graph must not stop the pack
        log.warning("%s does not run", path.name, exc_info=error)
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return f"{path.name} was read, but does not run ({reason}). {operations_of(path)}".strip()
    return ""


def operations_of(path: Path) -> str:
    """A sentence with the kinds of operations in a graph and how many there are of each; "" for what is no graph."""
    from hrn_opt.tfgraph.graphdef import read_graph

    try:
        graph = read_graph(path)
    except PackError:
        return ""
    counts = Counter(node.op for node in graph.nodes).most_common(_OPERATIONS_SHOWN)
    kinds = ", ".join(f"{kind} {count}" for kind, count in counts)
    return f"Its {len(graph.nodes)} operations: {kinds}."
