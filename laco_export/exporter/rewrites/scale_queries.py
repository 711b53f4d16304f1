"""The attention scale on Q, inside the query projection where that is a Linear layer.

A trace scales the scores ``[B, heads, N, N]``. On Q the scale touches N·C values in place of heads·N², and TensorRT
fuses MatMul-Softmax-MatMul. Where Q comes straight from a Linear layer the scale is multiplied into its weight and bias
and costs nothing at all (exact for a head of 64 channels, whose scale is 1/8; one rounding otherwise).
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from .outcome import MergeGrid, Outcome
from .rewiring import add_node, only_reader, producer, replace_readers, scalar


def scale_queries(graph: gs.Graph, merge: MergeGrid | None) -> Outcome:
    """Move each scale between the score MatMul and its Softmax to the queries."""
    fired, refused = 0, []
    for softmax in [node for node in graph.nodes if node.op == "Softmax"]:
        scaled = producer(softmax.inputs[0])
        if scaled is None or scaled.op not in ("Mul", "Div"):
            continue
        found = _scores_and_scale(scaled)
        if found is None:
            refused.append(f"{scaled.name}: it is no scalar scale of a MatMul's scores")
            continue
        scores, scale = found
        if not only_reader(graph, scores.outputs[0]):
            refused.append(f"{scores.name}: its unscaled scores are read elsewhere")
            continue
        if not _scale_projection(graph, scores.inputs[0], scale):
            _scale_tensor(graph, scores, scale)
        replace_readers(scaled.outputs[0], scores.outputs[0])
        fired += 1
    return Outcome(fired, tuple(refused))


def _scores_and_scale(scaled: gs.Node) -> tuple[gs.Node, float] | None:
    """The MatMul whose scores ``scaled`` multiplies or divides by a scalar, and the factor."""
    pairs = [(scaled.inputs[0], scaled.inputs[1])]
    if scaled.op == "Mul":
        pairs.append((scaled.inputs[1], scaled.inputs[0]))
    for scores, factor in pairs:
        value, matmul = scalar(factor), producer(scores)
        if value is not None and matmul is not None and matmul.op == "MatMul":
            return matmul, value if scaled.op == "Mul" else 1.0 / value
    return None


def _scale_projection(graph: gs.Graph, queries: gs.Tensor, scale: float) -> bool:
    """Multiply ``scale`` into the Linear layer that ``queries`` are a rearrangement of, if nothing else reads it."""
    bias_add, index = None, 0
    while True:
        node = producer(queries)
        if node is None or not only_reader(graph, queries):
            return False
        if node.op == "MatMul" and isinstance(node.inputs[1], gs.Constant):
            node.inputs[1] = _scaled(node.inputs[1], scale, f"{node.name}:weight_scaled")
            if bias_add is not None:
                bias_add.inputs[index] = _scaled(bias_add.inputs[index], scale, f"{bias_add.name}:bias_scaled")
            return True
        constants = [i for i, tensor in enumerate(node.inputs) if isinstance(tensor, gs.Constant)]
        if node.op == "Add" and bias_add is None and len(constants) == 1:
            bias_add, index = node, constants[0]
            queries = node.inputs[1 - index]
        elif node.op in ("Reshape", "Transpose"):
            queries = node.inputs[0]
        else:
            return False


def _scale_tensor(graph: gs.Graph, scores: gs.Node, scale: float) -> None:
    queries = scores.inputs[0]
    name = f"{scores.name}/ScaleQueries"
    factor = gs.Constant(f"{name}:factor", np.asarray(scale, dtype=queries.dtype))
    scores.inputs[0] = add_node(graph, "Mul", name, [queries, factor], queries.shape)


def _scaled(constant: gs.Constant, scale: float, name: str) -> gs.Constant:
    # Always a new constant: tracing shares equal ones (biases of zeros) between layers that are not scaled.
    return gs.Constant(name, constant.values * constant.values.dtype.type(scale))
