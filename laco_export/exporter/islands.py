"""More FP32 where the chosen islands were not enough.

Ranges foresee overflow and subnormals, not how rounding adds up: a norm that divides by a small deviation of large
values amplifies what half lost before it. So when the half-precision graph is judged out of tolerance, the blocks
around the first one that drifted become FP32, and the graph is judged again.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_graphsurgeon as gs

from ..agreement import Agreement
from .boundaries import boundary_of
from .rewrites.rewiring import producer

MAX_RETRIES = 3
"""Rounds of widening. They reach 1, 2 and 4 blocks: a model that needs more is served better by FP32 or bfloat16."""


def widen(
    graph: gs.Graph, boundary_names: Sequence[str], kept_fp32: dict[str, str], drifted: Agreement, retry: int
) -> dict[str, str]:
    """``kept_fp32`` and the segment that ends at ``drifted``'s boundary, with ``2^(retry − 1) − 1`` segments before it.

    Args:
        graph: in FP32; its outputs are ``image_features`` and the boundaries.
        drifted: the first tensor that was out of tolerance.
        retry: 1 for the first.
    """
    segments = segments_of(graph, boundary_names)
    names = list(segments)
    last = names.index(boundary_of(drifted.name))
    first = max(0, last + 1 - 2 ** (retry - 1))
    reason = f"rounding added up: {drifted.name} had {drifted.numbers()} (retry {retry})"
    return {**dict.fromkeys((node for name in names[first : last + 1] for node in segments[name]), reason), **kept_fp32}


def segments_of(graph: gs.Graph, boundary_names: Sequence[str]) -> dict[str, list[str]]:
    """Boundary → the names of the nodes that compute it from the boundaries before it, in the order of the encoder.

    The last entry is the graph's own output.
    """
    tensors = {tensor.name: tensor for tensor in graph.outputs}
    output = graph.outputs[0].name
    taken: set[str] = set()
    segments: dict[str, list[str]] = {}
    for name in [*boundary_names, output]:
        segments[name], waiting = [], [producer(tensors[name])]
        while waiting:
            node = waiting.pop()
            if node is None or node.name in taken:
                continue
            taken.add(node.name)
            segments[name].append(node.name)
            waiting += [producer(tensor) for tensor in node.inputs]
    return segments
