"""Attention with the split into heads inside, as one opset-23 node, for ONNX Runtime.

The node takes ``[B, N, C]`` and splits the heads itself, so the Reshapes and Transposes around them go too. TensorRT
takes no such node (:mod:`.fuse_attention`).
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from .attention_pattern import Attention, replace_attentions
from .outcome import MergeGrids, Outcome
from .rewiring import replace_writer


def fuse_heads(graph: gs.Graph, merges: MergeGrids) -> Outcome:
    """Replace every attention of the form in :mod:`.attention_pattern`, from the split to the joining of heads."""

    def replace(attention: Attention) -> None:
        attributes = {"q_num_heads": attention.heads, "kv_num_heads": attention.heads, "scale": 1.0}
        inputs = [attention.queries, attention.keys, attention.values]
        node = gs.Node("Attention", f"{attention.name}/Attention", attributes, inputs)
        replace_writer(graph, attention.join, node)

    return replace_attentions(graph, replace)
