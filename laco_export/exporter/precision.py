"""Which nodes of a half-precision graph stay FP32, and why.

By rule: the statistics of norms (a square, its mean, the root), because squares leave FP16's range at |x| > 255 and a
target may compute a fused norm in the dtype that it is given; and operators that ONNX does not define for the format.
By measurement, from :mod:`.ranges`: nodes that read or write a tensor which the format cannot hold. Every decision
carries its reason into the manifest.
"""

from __future__ import annotations

import math
from functools import cache

import onnx
import onnx_graphsurgeon as gs

from .half_formats import BF16, FP16, HalfFormat
from .ranges import TensorRange
from .rewrites.rewiring import producer

HEADROOM = 4.0
"""A tensor counts as out of range at a quarter of the largest number: only a few pictures are measured."""

ROUNDING_SLACK = 1.01
"""Normal numbers round by at most :attr:`HalfFormat.rounding`; more means subnormals (1 % covers FP32 summation)."""

MAX_SCORE_ROUNDING = 1 / 16
"""Where rounding may move an attention score by more, it moves the weight by more than 6 %: from scores of 128 on in
FP16, of 16 on in bfloat16."""

FOLLOWING = ("Reshape", "Transpose", "Slice", "Concat", "Pad", "Identity", "Squeeze", "Unsqueeze", "Split", "Gather")
"""Operators that only move values: they take the precision of what they are given."""

_WEIGHTED = ("MatMul", "Gemm", "Conv", "Mul", "Div", "Pow")
_STATISTICS = "norm statistics: squares and their mean leave half's range and precision (rule)"
_FUSED_NORM = "a target may compute a fused norm's variance in the dtype it is given (rule)"


def choose_fp32(graph: gs.Graph, ranges: dict[str, TensorRange], form: HalfFormat = FP16) -> dict[str, str]:
    """Node name → reason, for every node that must stay FP32."""
    kept_fp32: dict[str, str] = {}
    for node in graph.nodes:
        if form is BF16 and not _takes_bfloat16(node.op, graph.opset):
            kept_fp32[node.name] = f"ONNX's {node.op} takes no bfloat16 at opset {graph.opset} (rule)"
    for node in graph.nodes:
        for name, reason in _by_rule(node).items():
            kept_fp32.setdefault(name, reason)
    for node in graph.nodes:
        if node.name not in kept_fp32 and node.op not in FOLLOWING and (reason := _by_range(node, ranges, form)):
            kept_fp32[node.name] = reason
    for node in graph.nodes:
        if node.op == "Softmax" and (reason := _by_logits(node, ranges, form)):
            for member in (producer(node.inputs[0]), node):
                kept_fp32.setdefault(member.name, reason)
    return kept_fp32


@cache
def _takes_bfloat16(op: str, opset: int) -> bool:
    return "tensor(bfloat16)" in onnx.defs.get_schema(op, opset).inputs[0].types


def _by_rule(node: gs.Node) -> dict[str, str]:
    if node.op in ("LayerNormalization", "RMSNormalization"):
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
        upstream = next((writer for tensor in upstream.inputs if (writer := producer(tensor)) is not None), None)
    for reader in node.outputs[0].outputs:
        members.append(reader)
        if reader.op == "Reciprocal":
            members.extend(reader.outputs[0].outputs)
    return {member.name: _STATISTICS for member in members}


def _by_range(node: gs.Node, ranges: dict[str, TensorRange], form: HalfFormat) -> str | None:
    for tensor in [*node.outputs, *node.inputs]:
        measured = ranges.get(tensor.name)
        if measured is None:
            continue
        constant = isinstance(tensor, gs.Constant)
        limit = form.largest if constant else form.largest / HEADROOM
        if not measured.max_abs <= limit:
            return f"|{tensor.name}| reaches {measured.max_abs:.4g}, above {limit:.4g}"
        # A constant that is added may vanish beside what it is added to; one that multiplies may not.
        if constant and node.op not in _WEIGHTED:
            continue
        if measured.rounding > form.rounding * ROUNDING_SLACK:
            lost = f"rounding it costs {measured.rounding:.2g} of its norm"
            return f"{tensor.name} falls to {form.in_words}'s subnormals: {lost}"
    return None


def _by_logits(softmax: gs.Node, ranges: dict[str, TensorRange], form: HalfFormat) -> str | None:
    scores = softmax.inputs[0]
    measured = ranges.get(scores.name)
    if measured is None or producer(scores) is None or measured.max_abs * form.rounding < MAX_SCORE_ROUNDING:
        return None
    if not math.isfinite(measured.max_abs):
        return f"|{scores.name}| is not finite"
    rounding = measured.max_abs * form.rounding
    return f"scores reach {measured.max_abs:.4g}: {form.in_words} would round them by up to {rounding:.2g}"
