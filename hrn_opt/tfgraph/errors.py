"""What can be wrong with a graph beyond being damaged or foreign."""

from hrn_opt.errors import PackError


class GraphUnsupported(PackError):
    """A whole and fitting graph that uses something this reader does not have."""


class NotBuiltIn(Exception):
    """Raised where one setting is met; compile_graph makes it a GraphUnsupported that names file, node and remedy."""
