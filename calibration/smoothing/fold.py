"""Outlier channels moved from a Linear's input into its weights (SmoothQuant, Xiao et al. 2022, eq. 3 and 4).

A few channels of a transformer's activations are tens of times larger than the rest, and one scale for the whole tensor
then leaves the others a handful of levels. Dividing channel j by ``s_j`` and multiplying row j of the weights by it
changes nothing in exact arithmetic; the division is folded into what computes the tensor:

- ``norm``: the scale (and bias) of the RMSNorm or LayerNorm before q, k, v, before the MLP, before the merge's first
  Linear, before the projector;
- ``gate``: the columns of up_proj, whose output is multiplied by the activated gate to give down_proj's input;
- ``values``: the columns of v_proj, which attention only averages over tokens, for out_proj.

A plain GELU between two Linear layers lets nothing through, so fc2's input stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from laco_export.exporter.rewrites.rewiring import only_reader, producer

from ..graph.linear_layers import Block, block_of, is_linear, sources_of

STRENGTHS = (0.0, 0.35, 0.5, 0.65, 0.8)
"""Tried for each block; 0 leaves it as it is. SmoothQuant uses 0.5 for OPT and up to 0.9 for GLM-130B."""


@dataclass(frozen=True)
class Fold:
    """A Linear input whose channels can be scaled for nothing.

    Attributes:
        kind: ``norm``, ``gate`` or ``values``.
        readers: the Linear layers that read it.
        owner: the node whose constants take the division: the norm's Mul or LayerNormalization, or a Linear.
    """

    source: str
    block: str
    kind: str
    readers: tuple[str, ...]
    owner: str


def find_folds(graph: gs.Graph, blocks: Sequence[Block]) -> list[Fold]:
    """Every Linear input of ``graph`` that can be scaled by folding."""
    tensors, folds = graph.tensors(), []
    for source, linears in sources_of(list(blocks)).items():
        tensor = tensors[source]
        if any(not is_linear(node) for node in tensor.outputs) or any(tensor is output for output in graph.outputs):
            continue  # something else reads it, and would see the scaled values
        for kind, find in _OWNERS.items():
            owner = find(graph, tensor)
            if owner is not None:
                folds.append(Fold(source, linears[0].block, kind, tuple(linear.node for linear in linears), owner.name))
                break
    return folds


def smoothing_scales(channel_max: np.ndarray, weights: Sequence[np.ndarray], strength: float) -> np.ndarray:
    """``s_j = max|X_j|^α / max|W_j|^(1-α)`` (eq. 4), float32 ``[C]``, with geometric mean 1.

    A common factor changes nothing, so it is taken out: the tensor keeps its magnitude, which half precision is glad
    of. Channels that are zero, in the input or in the weights, stay as they are.

    Args:
        channel_max: ``[C]``; weights: the readers' matrices ``[C, out]``; strength: α.
    """
    rows = np.max([np.abs(weight).max(1) for weight in weights], 0).astype(np.float64)  # [C]
    inputs = np.asarray(channel_max, np.float64)
    alive = (inputs > 0) & (rows > 0)
    scales = np.ones_like(inputs)
    scales[alive] = inputs[alive] ** strength / rows[alive] ** (1 - strength)
    if alive.any():
        scales[alive] /= np.exp(np.log(scales[alive]).mean())
    return scales.astype(np.float32)


def fold_scales(graph: gs.Graph, folds: Sequence[Fold], scales: Mapping[str, np.ndarray]) -> None:
    """Divide each named Linear input by its scales and multiply its readers' rows, in place.

    Constants are replaced and never changed: tracing shares equal ones (norms of ones) between layers.
    """
    nodes = {node.name: node for node in graph.nodes}
    for fold in folds:
        if fold.source not in scales:
            continue
        scale = np.asarray(scales[fold.source], np.float32)
        owner = nodes[fold.owner]
        for index in _divided(owner):
            owner.inputs[index] = _replaced(owner, index, owner.inputs[index].values / scale)
        if fold.kind != "norm" and (bias := _bias_of(owner)) is not None:
            add, index = bias
            add.inputs[index] = _replaced(add, index, add.inputs[index].values / scale)
        for name in fold.readers:
            reader = nodes[name]
            reader.inputs[1] = _replaced(reader, 1, reader.inputs[1].values * scale[:, None])
    graph.cleanup()


def _divided(owner: gs.Node) -> list[int]:
    """Which inputs of a fold's owner are divided: a norm's scale and bias, a Linear's columns."""
    if owner.op == "LayerNormalization":
        return list(range(1, len(owner.inputs)))
    return [index for index, tensor in enumerate(owner.inputs) if isinstance(tensor, gs.Constant)]


def _replaced(node: gs.Node, index: int, values: np.ndarray) -> gs.Constant:
    name = node.inputs[index].name
    name = name if name.endswith(":smoothed") else f"{node.name}:{index}:smoothed"
    return gs.Constant(name, np.ascontiguousarray(values, np.float32))


def _norm_owner(graph: gs.Graph, tensor: gs.Tensor) -> gs.Node | None:
    node = producer(tensor)
    if node is None:
        return None
    if node.op in ("LayerNormalization", "RMSNormalization"):
        return node if all(isinstance(tensor, gs.Constant) for tensor in node.inputs[1:]) else None
    constants = [operand for operand in node.inputs if isinstance(operand, gs.Constant)]
    channels = tensor.shape[-1:]
    return node if node.op == "Mul" and len(constants) == 1 and list(constants[0].shape) == list(channels) else None


def _gate_owner(graph: gs.Graph, tensor: gs.Tensor) -> gs.Node | None:
    node = producer(tensor)
    if node is None or node.op != "Mul" or any(isinstance(factor, gs.Constant) for factor in node.inputs):
        return None
    for factor in node.inputs:
        linear = _linear_behind(graph, factor)
        if linear is not None:
            return linear
    return None


def _values_owner(graph: gs.Graph, tensor: gs.Tensor) -> gs.Node | None:
    mixed = _through(graph, tensor)
    attention = producer(mixed)
    if attention is None or not only_reader(graph, mixed):
        return None
    if attention.op == "Attention":
        values = attention.inputs[2]
    elif attention.op == "MatMul" and producer(attention.inputs[0]) and producer(attention.inputs[0]).op == "Softmax":
        values = attention.inputs[1]
    else:
        return None
    if not only_reader(graph, values):
        return None
    linear = _linear_behind(graph, _through(graph, values))
    # One channel a column and nothing mixed on the way: heads are split and joined in the same order.
    return linear if linear is not None and linear.inputs[1].shape[1] == tensor.shape[-1] else None


_OWNERS = {"norm": _norm_owner, "gate": _gate_owner, "values": _values_owner}


def _through(graph: gs.Graph, tensor: gs.Tensor) -> gs.Tensor:
    """Back over Reshape and Transpose, as long as nothing else reads in between."""
    while (node := producer(tensor)) is not None and node.op in ("Reshape", "Transpose"):
        if not only_reader(graph, node.inputs[0]):
            return node.inputs[0]
        tensor = node.inputs[0]
    return tensor


def _linear_behind(graph: gs.Graph, tensor: gs.Tensor) -> gs.Node | None:
    """The Linear that computes ``tensor``, with or without a bias, if nothing else reads it."""
    node = producer(tensor)
    if node is None or not only_reader(graph, tensor):
        return None
    if node.op == "Add" and sum(isinstance(term, gs.Constant) for term in node.inputs) == 1:
        product = next(term for term in node.inputs if not isinstance(term, gs.Constant))
        return _linear_behind(graph, product)
    return node if is_linear(node) and block_of(node.name) else None


def _bias_of(linear: gs.Node) -> tuple[gs.Node, int] | None:
    """The Add behind a Linear and which of its inputs is the bias."""
    readers = linear.outputs[0].outputs
    if len(readers) == 1 and readers[0].op == "Add":
        for index, tensor in enumerate(readers[0].inputs):
            if isinstance(tensor, gs.Constant):
                return readers[0], index
    return None
