"""Frozen TensorFlow graphs in torch, without TensorFlow: read, refuse what is unknown, run."""

from hrn_opt.tfgraph.errors import GraphUnsupported
from hrn_opt.tfgraph.network import GraphNetwork

__all__ = ["GraphNetwork", "GraphUnsupported"]
