"""What is known of the rewritten graph before it is written: that it is PyTorch's, and what of it must stay FP32.

One run of the FP32 graph over the pictures gives both: it is compared with PyTorch block by block, and the range of
every tensor is measured as it is computed.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import precision as precision_rules
from .half_formats import HALF_FORMATS, HalfFormat
from .proof import Proof, Reference, prove_rewrites
from .ranges import RangeMeter
from .vision_graph import TracedGraph


@dataclass(frozen=True)
class RewriteProof:
    """The rewritten graph against PyTorch, and the precision that its ranges allow.

    Attributes:
        proof: in FP32, block by block; it may have failed (:meth:`~.proof.Proof.require`).
        half_format: of the graph that is to be written; None for FP32.
        kept_fp32: node name → why it stays FP32 in that graph.
    """

    proof: Proof
    half_format: HalfFormat | None
    kept_fp32: dict[str, str]


def prove_and_measure(reference: Reference, traced: TracedGraph, precision: str) -> RewriteProof:
    """Compare the FP32 graph with PyTorch and, for half precision, choose the nodes that stay FP32.

    Args:
        precision: ``fp32``, ``fp16`` or ``bf16``.
    """
    half_format = HALF_FORMATS.get(precision)
    if half_format is None:
        return RewriteProof(prove_rewrites(reference, traced.graph), None, {})
    meter = RangeMeter(traced.graph, half_format.torch)
    proof = prove_rewrites(reference, traced.graph, meter)
    return RewriteProof(proof, half_format, precision_rules.choose_fp32(traced.graph, meter.ranges, half_format))
