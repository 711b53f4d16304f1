"""Multi-head attention as a trace writes it, recognised from its Softmax.

::

    queries [B, N, C] ─Reshape─▶ [B, N, h, d] ─Transpose 0 2 1 3─▶ [B, h, N, d] ─┐
    keys    [B, N, C] ─Reshape─▶ [B, N, h, d] ─Transpose 0 2 3 1─▶ [B, h, d, N] ─MatMul─▶ Softmax ─┐
    values  [B, N, C] ─Reshape─▶ [B, N, h, d] ─Transpose 0 2 1 3─▶ [B, h, N, d] ───────────────MatMul─▶ [B, h, N, d]
            [B, N, C] ◀─Reshape─ [B, N, h, d] ◀─Transpose 0 2 1 3───────────────────────────────────────┘
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from .outcome import Outcome
from .rewiring import only_reader, producer

HEADS_FIRST, _HEADS_FIRST_TRANSPOSED = [0, 2, 1, 3], [0, 2, 3, 1]


@dataclass(frozen=True)
class Attention:
    """One attention: its tensors ``[B, N, C]`` before the split into heads and after their joining.

    Attributes:
        name: the PyTorch module's path.
        scores, context: the two MatMuls, before and after the Softmax.
        join: the Reshape that writes the output.
    """

    name: str
    queries: gs.Tensor
    keys: gs.Tensor
    values: gs.Tensor
    scores: gs.Node
    context: gs.Node
    join: gs.Node
    heads: int


def replace_attentions(graph: gs.Graph, replace: Callable[[Attention], None]) -> Outcome:
    """Call ``replace`` with every attention of the documented form; say why the others stay."""
    fired, refused = 0, []
    for softmax in [node for node in graph.nodes if node.op == "Softmax"]:
        attention = find_attention(graph, softmax)
        if isinstance(attention, str):
            refused.append(f"{softmax.name}: {attention}")
            continue
        replace(attention)
        fired += 1
    return Outcome(fired, tuple(refused))


def find_attention(graph: gs.Graph, softmax: gs.Node) -> Attention | str:
    """The attention that ``softmax`` weighs, or why it is none of the documented form."""
    scores, context = producer(softmax.inputs[0]), _reader(graph, softmax.outputs[0])
    if softmax.attrs.get("axis", -1) not in (-1, 3):
        return "its Softmax is not over the last axis"
    if scores is None or scores.op != "MatMul" or not only_reader(graph, scores.outputs[0]):
        return "its Softmax does not read a MatMul's scores alone"
    if context is None or context.op != "MatMul" or context.inputs[0] is not softmax.outputs[0]:
        return "its weights feed something else than one MatMul"
    queries = _split(scores.inputs[0], HEADS_FIRST)
    keys = _split(scores.inputs[1], _HEADS_FIRST_TRANSPOSED)
    values = _split(context.inputs[1], HEADS_FIRST)
    if queries is None or keys is None or values is None:
        return "its queries, keys or values are not [B, N, C] split into heads"
    transpose = _reader(graph, context.outputs[0])
    join = None if transpose is None else _reader(graph, transpose.outputs[0])
    if join is None or (transpose.op, transpose.attrs.get("perm"), join.op) != ("Transpose", HEADS_FIRST, "Reshape"):
        return "its heads are not joined by a Transpose and a Reshape"
    batch, tokens, heads, size = transpose.outputs[0].shape
    if list(join.outputs[0].shape) != [batch, tokens, heads * size]:
        return "its heads are not joined to [B, N, C]"
    name = join.name.rpartition("/")[0] or join.name
    return Attention(name, queries, keys, values, scores, context, join, heads)


def _split(tensor: gs.Tensor, perm: list[int]) -> gs.Tensor | None:
    """The ``[B, N, C]`` that ``tensor`` is, by heads and transposed by ``perm``."""
    transpose = producer(tensor)
    reshape = producer(transpose.inputs[0]) if transpose is not None and transpose.op == "Transpose" else None
    if reshape is None or reshape.op != "Reshape" or list(transpose.attrs.get("perm", [])) != perm:
        return None
    source, (batch, tokens, heads, size) = reshape.inputs[0], reshape.outputs[0].shape
    return source if source.shape is not None and list(source.shape) == [batch, tokens, heads * size] else None


def _reader(graph: gs.Graph, tensor: gs.Tensor) -> gs.Node | None:
    return tensor.outputs[0] if only_reader(graph, tensor) else None
