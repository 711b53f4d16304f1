"""Nodes that compute what another node computed already."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from .outcome import MergeGrids, Outcome
from .rewiring import is_output, replace_readers

_SMALL = 1024  # bytes: constants up to this size are compared by value, larger ones by name


def merge_duplicates(graph: gs.Graph, merges: MergeGrids) -> Outcome:
    """Let the readers of a duplicate read the first node's output."""
    fired, refused = 0, []
    first: dict[tuple, gs.Node] = {}
    graph.toposort()
    for node in list(graph.nodes):
        twin = first.setdefault(_key(node), node)
        if twin is node or len(node.outputs) != 1:
            continue
        if is_output(graph, node.outputs[0]):
            refused.append(f"{node.name}: its output is an output of the graph")
            continue
        replace_readers(node.outputs[0], twin.outputs[0])
        node.outputs.clear()
        node.inputs.clear()
        fired += 1
    return Outcome(fired, tuple(refused))


def _key(node: gs.Node) -> tuple:
    attributes = tuple(sorted((name, repr(value)) for name, value in node.attrs.items()))
    return node.op, node.domain or "", tuple(_identity(tensor) for tensor in node.inputs), attributes


def _identity(tensor: gs.Tensor) -> tuple:
    if isinstance(tensor, gs.Constant) and tensor.values.nbytes <= _SMALL:
        values = tensor.values
        return "constant", str(values.dtype), values.shape, values.tobytes()
    return "tensor", tensor.name
