"""LayerScale inside the Linear layer before it: its weight's columns and its bias take the scale (InternViT)."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from .outcome import MergeGrids, Outcome
from .rewiring import only_reader, producer, replace_writer

LEAST = 1e-4
"""Root mean square of the scaled weights, at least: below, they near half's subnormal numbers (6e-5)."""


def fold_layer_scale(graph: gs.Graph, merges: MergeGrids) -> Outcome:
    """Fold every Mul of a Linear layer's output by a constant vector ``[C]``."""
    fired, refused = 0, []
    for mul in [node for node in graph.nodes if node.op == "Mul"]:
        constants = [index for index, tensor in enumerate(mul.inputs) if isinstance(tensor, gs.Constant)]
        if len(constants) != 1 or mul.inputs[constants[0]].values.ndim != 1:
            continue
        scale, scaled = mul.inputs[constants[0]].values, mul.inputs[1 - constants[0]]
        linear = _linear(graph, scaled)
        if linear is None or scale.shape != (scaled.shape[-1],):
            continue
        matmul, bias = linear
        weight = matmul.inputs[1].values * scale
        if float(np.sqrt(np.mean(np.square(weight, dtype=np.float64)))) < LEAST:
            refused.append(f"{mul.name}: the scaled weights would near half's subnormal numbers")
            continue
        matmul.inputs[1] = gs.Constant(f"{matmul.name}:weight_layer_scaled", weight)
        if bias is not None:
            index = [isinstance(tensor, gs.Constant) for tensor in bias.inputs].index(True)
            values = bias.inputs[index].values * scale
            bias.inputs[index] = gs.Constant(f"{bias.name}:bias_layer_scaled", values)
        replace_writer(graph, mul, _taken(graph, bias or matmul))
        fired += 1
    return Outcome(fired, tuple(refused))


def _linear(graph: gs.Graph, tensor: gs.Tensor) -> tuple[gs.Node, gs.Node | None] | None:
    """The MatMul by a constant matrix, and the Add of a bias after it, that write ``tensor`` for one reader."""
    node, bias = producer(tensor), None
    if node is None or not only_reader(graph, tensor):
        return None
    if node.op == "Add" and sum(isinstance(operand, gs.Constant) for operand in node.inputs) == 1:
        bias = node
        before = next(operand for operand in node.inputs if not isinstance(operand, gs.Constant))
        node = producer(before)
        if node is None or not only_reader(graph, before):
            return None
        constant = next(operand for operand in bias.inputs if isinstance(operand, gs.Constant))
        if constant.values.shape != (tensor.shape[-1],):
            return None
    if node.op != "MatMul" or not isinstance(node.inputs[1], gs.Constant) or node.inputs[1].values.ndim != 2:
        return None
    return node, bias


def _taken(graph: gs.Graph, node: gs.Node) -> gs.Node:
    """``node`` without its output, and out of the list of nodes, to be put in another's place."""
    node.outputs.clear()
    graph.nodes.remove(node)
    return node
