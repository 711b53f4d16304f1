"""Attention as one opset-23 node over heads, for TensorRT from 10.14.

TensorRT's parser takes queries, keys and values of four dimensions only, so the Reshapes and Transposes around the node
stay; the keys' Transpose becomes that of the queries. The scale is 1: :mod:`.scale_queries` has moved it into the
queries.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from .attention_pattern import HEADS_FIRST, Attention, replace_attentions
from .outcome import MergeGrids, Outcome
from .rewiring import add_node, producer, replace_writer


def fuse_attention(graph: gs.Graph, merges: MergeGrids) -> Outcome:
    """Replace MatMul-Softmax-MatMul of the form in :mod:`.attention_pattern` by an Attention node ``[B, h, N, d]``."""

    def replace(attention: Attention) -> None:
        queries, values = attention.scores.inputs[0], attention.context.inputs[1]  # [B, h, N, d]
        split_keys = producer(attention.scores.inputs[1]).inputs[0]  # [B, N, h, d]
        keys = add_node(
            graph, "Transpose", f"{attention.name}/Keys", [split_keys], list(values.shape), {"perm": HEADS_FIRST}
        )
        node = gs.Node("Attention", f"{attention.name}/Attention", {"scale": 1.0}, [queries, keys, values])
        replace_writer(graph, attention.context, node)

    return replace_attentions(graph, replace)
