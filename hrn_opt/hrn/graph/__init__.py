"""Frozen TensorFlow graphs in torch, without TensorFlow: read, refuse what is unknown, run."""

from hrn_opt.hrn.graph.errors import GraphUnsupported
from hrn_opt.hrn.graph.network import GraphNetwork

__all__ = ["GraphNetwork", "GraphUnsupported"]
