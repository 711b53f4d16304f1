"""Shapes and constants computed now and not on the device: no Shape, no Expand of a constant, no Constant node."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from .outcome import MergeGrids, Outcome


def fold_constants(graph: gs.Graph, merges: MergeGrids) -> Outcome:
    """Fold what depends on static shapes and constants alone; fires once per node that goes."""
    before = len(graph.nodes)
    graph.fold_constants(fold_shapes=True, error_ok=False).cleanup()
    return Outcome(before - len(graph.nodes))
