"""Graph rewrites by ONNX GraphSurgeon: one per file, in the order in which they run.

A rewrite takes the graph and the merge that it was traced with, edits the graph in place into an equal one, and returns
an :class:`Outcome`. Each leaves a valid graph, whatever ran before it. Adding one is its file and one line in
:data:`REWRITES`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import onnx_graphsurgeon as gs

from .average_residual import average_residual
from .fold_constants import fold_constants
from .merge_duplicates import merge_duplicates
from .merge_windows import merge_windows
from .outcome import MergeGrid, Outcome
from .remove_identities import remove_identities
from .scale_queries import scale_queries

Rewrite = Callable[[gs.Graph, "MergeGrid | None"], Outcome]

REWRITES: tuple[Rewrite, ...] = (
    fold_constants,
    merge_windows,
    average_residual,
    scale_queries,
    remove_identities,
    merge_duplicates,
)

_log = logging.getLogger(__name__)


def apply_rewrites(graph: gs.Graph, merge: MergeGrid | None) -> list[dict]:
    """Run :data:`REWRITES` in order.

    Returns:
        the manifest's record: ``[{"name", "fired", "refused"}]``.
    """
    records = []
    for rewrite in REWRITES:
        outcome = rewrite(graph, merge)
        graph.cleanup().toposort()
        for reason in outcome.refused:
            _log.info("%s refused: %s", rewrite.__name__, reason)
        records.append({"name": rewrite.__name__, "fired": outcome.fired, "refused": list(outcome.refused)})
    return records


__all__ = ["REWRITES", "MergeGrid", "Outcome", "apply_rewrites"]
