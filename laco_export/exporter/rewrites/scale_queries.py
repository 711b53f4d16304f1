"""The attention scale on Q, inside the query projection where that is a Linear layer.

A trace scales the scores ``[B, heads, N, N]``, or queries and keys by the scale's root each (PyTorch's
``scaled_dot_product_attention`` in TokenPacker). On Q alone the scale touches N·C values in place of heads·N², and
TensorRT fuses MatMul-Softmax-MatMul. Where Q comes straight from a Linear layer the scale is multiplied into its weight
and bias and costs nothing at all (exact for a head of 64 channels, whose scale is 1/8; one rounding otherwise).
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from .outcome import MergeGrids, Outcome
from .rewiring import add_node, only_reader, producer, replace_readers, scalar


def scale_queries(graph: gs.Graph, merges: MergeGrids) -> Outcome:
    """Move each scale between the score MatMul and its Softmax, and those before the MatMul, to the queries."""
    fired, refused = 0, []
    for softmax in [node for node in graph.nodes if node.op == "Softmax"]:
        scaled = producer(softmax.inputs[0])
        if scaled is not None and scaled.op == "MatMul":
            fired += _gather_roots(graph, scaled)
            continue
        if scaled is None or scaled.op not in ("Mul", "Div"):
            continue
        scores_and_scale = _scores_and_scale(scaled)
        if scores_and_scale is None:
            refused.append(f"{scaled.name}: it is no scalar scale of a MatMul's scores")
            continue
        scores, scale = scores_and_scale
        if not only_reader(graph, scores.outputs[0]):
            refused.append(f"{scores.name}: its unscaled scores are read elsewhere")
            continue
        _scale(graph, scores, scale)
        replace_readers(scaled.outputs[0], scores.outputs[0])
        fired += 1
    return Outcome(fired, tuple(refused))


def _gather_roots(graph: gs.Graph, scores: gs.Node) -> bool:
    """Take the scales of both inputs of ``scores`` and put their product on the queries; whether keys had one."""
    if _source_and_factor(producer(scores.inputs[1])) is None:
        return False
    _scale(graph, scores, _pass_by(scores, 0) * _pass_by(scores, 1))
    return True


def _pass_by(scores: gs.Node, index: int) -> float:
    """Let ``scores`` read what its input is a scalar multiple of; the factor, 1 where it is none."""
    node = producer(scores.inputs[index])
    source_and_factor = _source_and_factor(node)
    if source_and_factor is None:
        return 1.0
    scores.inputs[index], factor = source_and_factor
    if not node.outputs[0].outputs:
        node.inputs.clear()  # nobody reads it any more: it must not count as a reader itself
    return factor


def _scores_and_scale(scaled: gs.Node) -> tuple[gs.Node, float] | None:
    """The MatMul whose scores ``scaled`` multiplies or divides by a scalar, and the factor."""
    source_and_factor = _source_and_factor(scaled)
    matmul = None if source_and_factor is None else producer(source_and_factor[0])
    return None if matmul is None or matmul.op != "MatMul" else (matmul, source_and_factor[1])


def _source_and_factor(node: gs.Node | None) -> tuple[gs.Tensor, float] | None:
    """What ``node`` multiplies or divides by a scalar, and the factor."""
    if node is None or node.op not in ("Mul", "Div"):
        return None
    pairs = [(node.inputs[0], node.inputs[1])]
    if node.op == "Mul":
        pairs.append((node.inputs[1], node.inputs[0]))
    for source, factor in pairs:
        value = scalar(factor)
        if value is not None:
            return source, value if node.op == "Mul" else 1.0 / value
    return None


def _scale(graph: gs.Graph, scores: gs.Node, scale: float) -> None:
    """Multiply the queries of ``scores`` by ``scale``, in their projection if they have one of their own."""
    if not _scale_projection(graph, scores.inputs[0], scale):
        _scale_tensor(graph, scores, scale)


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
