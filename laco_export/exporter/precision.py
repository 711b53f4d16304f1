"""Which nodes of a half-precision graph stay FP32, and why.

By rule: the statistics of norms (a square, its mean, the root), because squares leave half's range at |x| > 255 and a
target may compute a fused norm in the dtype that it is given. By measurement, from :mod:`.ranges`: nodes that read or
write a tensor which half cannot hold. Every decision carries its reason into the manifest.
"""

from __future__ import annotations

import math

import onnx_graphsurgeon as gs

from .ranges import TensorRange
from .rewrites.rewiring import producer

HALF_MAX = 65504.0
HEADROOM = 4.0
"""A tensor counts as out of range at a quarter of half's largest number: only a few pictures are measured."""

MAX_ROUNDING = 2.0**-11 * 1.01
"""Rounding within half's normal numbers stays below 2⁻¹¹; more means subnormals (the 1 % covers FP32 summation)."""

MAX_LOGIT = 128.0
"""From here on half rounds an attention score by more than 1/16, and its weight by more than 6 %."""

FOLLOWING = ("Reshape", "Transpose", "Slice", "Concat", "Pad", "Identity", "Squeeze", "Unsqueeze", "Split", "Gather")
"""Operators that only move values: they take the precision of what they are given."""

_WEIGHTED = ("MatMul", "Gemm", "Conv", "Mul", "Div", "Pow")
_STATISTICS = "norm statistics: squares and their mean leave half's range and precision (rule)"
_FUSED_NORM = "a target may compute a fused norm's variance in the dtype it is given (rule)"


def choose_fp32(graph: gs.Graph, ranges: dict[str, TensorRange]) -> dict[str, str]:
    """Node name → reason, for every node that must stay FP32."""
    kept: dict[str, str] = {}
    for node in graph.nodes:
        for name, reason in _by_rule(node).items():
            kept.setdefault(name, reason)
    for node in graph.nodes:
        if node.name not in kept and node.op not in FOLLOWING and (reason := _by_range(node, ranges)):
            kept[node.name] = reason
    for node in graph.nodes:
        if node.op == "Softmax" and (reason := _by_logits(node, ranges)):
            for member in (producer(node.inputs[0]), node):
                kept.setdefault(member.name, reason)
    return kept


def _by_rule(node: gs.Node) -> dict[str, str]:
    if node.op == "LayerNormalization":
        return {node.name: _FUSED_NORM}
    if node.op != "Sqrt":
        return {}
    # Mul(x, Reciprocal(Sqrt(Add(ReduceMean(Pow(x, 2)), eps)))), as RMSNorm traces; Div(x, Sqrt(…)) as others write it
    members, upstream = [node], producer(node.inputs[0])
    for expected in (("Add",), ("ReduceMean",), ("Pow", "Mul")):
        if upstream is not None and upstream.op not in expected and expected == ("Add",):
            continue  # a norm without epsilon
        if upstream is None or upstream.op not in expected:
            return {}
        members.append(upstream)
        upstream = next((found for tensor in upstream.inputs if (found := producer(tensor)) is not None), None)
    for reader in node.outputs[0].outputs:
        members.append(reader)
        if reader.op == "Reciprocal":
            members.extend(reader.outputs[0].outputs)
    return {member.name: _STATISTICS for member in members}


def _by_range(node: gs.Node, ranges: dict[str, TensorRange]) -> str | None:
    for tensor in [*node.outputs, *node.inputs]:
        measured = ranges.get(tensor.name)
        if measured is None:
            continue
        constant = isinstance(tensor, gs.Constant)
        limit = HALF_MAX if constant else HALF_MAX / HEADROOM
        if not measured.max_abs <= limit:
            return f"|{tensor.name}| reaches {measured.max_abs:.4g}, above {limit:.4g}"
        # A constant that is added may vanish beside what it is added to; one that multiplies may not.
        if constant and node.op not in _WEIGHTED:
            continue
        if measured.rounding > MAX_ROUNDING:
            return f"{tensor.name} falls to half's subnormals: rounding it costs {measured.rounding:.2g} of its norm"
    return None


def _by_logits(softmax: gs.Node, ranges: dict[str, TensorRange]) -> str | None:
    scores = softmax.inputs[0]
    measured = ranges.get(scores.name)
    if measured is None or producer(scores) is None or not measured.max_abs >= MAX_LOGIT:
        return None
    if not math.isfinite(measured.max_abs):
        return f"|{scores.name}| is not finite"
    return f"scores reach {measured.max_abs:.4g}: half would round them by up to {measured.max_abs * 2**-11:.2g}"
