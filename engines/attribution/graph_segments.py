"""A vision graph cut at boundaries: each segment is a graph of its own over the same weight file.

A segment begins at whatever earlier boundaries it reads, so that a CLS token that goes around a merge is no obstacle.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from laco_export.errors import BundleError


def cut_graph(model: onnx.ModelProto, ends: Sequence[str]) -> list[onnx.ModelProto]:
    """One model for each of ``ends``: from the boundaries before it, or from the graph's input, to that tensor.

    Args:
        model: its external weights stay where they are.
        ends: tensors in the order in which they are computed, the last the graph's output.

    Raises:
        BundleError: the graph does not have one of them, or computes one from its input past all boundaries before.
    """
    graph = onnx.shape_inference.infer_shapes(model).graph
    typed = {value.name: value for value in (*graph.input, *graph.value_info, *graph.output)}
    if missing := [name for name in ends if name not in typed]:
        raise BundleError("the vision graph does not have these boundaries", given=", ".join(missing))
    segments = []
    for place, end in enumerate(ends):
        nodes, reads = _nodes_between(graph, {graph.input[0].name, *ends[:place]}, end)
        if place and graph.input[0].name in reads:
            raise BundleError("the vision graph cannot be cut", given=f"'{end}' reads the pixels themselves")
        weights = {name for node in nodes for name in node.input}
        segment = onnx.helper.make_graph(
            nodes,
            end,
            [typed[name] for name in reads],
            [typed[end]],
            [tensor for tensor in graph.initializer if tensor.name in weights],
        )
        segments.append(
            onnx.helper.make_model(
                segment,
                opset_imports=model.opset_import,
                ir_version=model.ir_version,
                functions=model.functions,
            )
        )
    return segments


def _nodes_between(graph: onnx.GraphProto, begins: set[str], end: str) -> tuple[list[onnx.NodeProto], list[str]]:
    """The nodes that compute ``end``, in the graph's order, and those of ``begins`` that they read."""
    producers = {name: place for place, node in enumerate(graph.node) for name in node.output if name}
    needed: set[int] = set()
    reads: dict[str, None] = {}
    pending = [end]
    while pending:
        tensor = pending.pop()
        if tensor in begins:
            reads[tensor] = None
        elif tensor in producers and producers[tensor] not in needed:
            needed.add(producers[tensor])
            pending += graph.node[producers[tensor]].input
    return [graph.node[place] for place in sorted(needed)], sorted(reads)
