"""Graph rewrites by ONNX GraphSurgeon: one per file, in the order in which they run.

A rewrite takes the graph and the merges that it was traced with, edits the graph in place into an equal one, and
returns an :class:`Outcome`. Each leaves a valid graph, whatever ran before it. Adding one is its file and one
``Rewrite(run, targets)`` in :data:`REWRITES`; one for a target sees the graph as the others left it, with the windows
in the order of :mod:`.merge_windows`.

Those for every target run on the FP32 graph, before ranges are measured on it:

- :mod:`.fold_constants`: shapes and constants computed now;
- :mod:`.merge_windows`: the Patch Merge Layer's rearrangement in its fastest form;
- :mod:`.average_residual`: its residual branch in its cheapest;
- :mod:`.pool_windows`: r×r pooling as one mean over windows;
- :mod:`.fold_layer_scale`: LayerScale inside the Linear layer before it;
- :mod:`.scale_queries`: the attention scale on the queries;
- :mod:`.remove_identities`: nodes that hand on what they were given;
- :mod:`.merge_duplicates`: nodes that compute what another computed.

Those that give a target its forms run last, on the graph in its final precision: what precision has left in FP32 is
then part of the graph that they see.

- :mod:`.fuse_rms_norms`: RMSNorm as one node;
- :mod:`.fuse_attention`: attention as one node over heads, for TensorRT;
- :mod:`.fuse_heads`: attention with the split into heads inside, for ONNX Runtime.

What they share:

- :mod:`.outcome`: what a rewrite is given and what it reports;
- :mod:`.rewiring`: edits that several make;
- :mod:`.window_chain`: chains that gather windows, recognised by what they compute;
- :mod:`.attention_pattern`: attention as a trace writes it;
- :mod:`.norm_pattern`: RMSNorm as a trace writes it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from .average_residual import average_residual
from .fold_constants import fold_constants
from .fold_layer_scale import fold_layer_scale
from .fuse_attention import fuse_attention
from .fuse_heads import fuse_heads
from .fuse_rms_norms import fuse_rms_norms
from .merge_duplicates import merge_duplicates
from .merge_windows import merge_windows
from .outcome import MergeGrid, MergeGrids, Outcome
from .pool_windows import pool_windows
from .remove_identities import remove_identities
from .scale_queries import scale_queries


@dataclass(frozen=True)
class Rewrite:
    """One entry.

    Attributes:
        targets: names of :data:`~laco_export.exporter.targets.TARGETS` that it is for; None: every target.
    """

    run: Callable[[gs.Graph, MergeGrids], Outcome]
    targets: tuple[str, ...] | None = None

    @property
    def name(self) -> str:
        return self.run.__name__


_OPSET_23 = ("trt10.14", "ort-cpu")

REWRITES: tuple[Rewrite, ...] = (
    Rewrite(fold_constants),
    Rewrite(merge_windows),
    Rewrite(average_residual),
    Rewrite(pool_windows),
    Rewrite(fold_layer_scale),
    Rewrite(scale_queries),
    Rewrite(remove_identities),
    Rewrite(merge_duplicates),
    Rewrite(fuse_rms_norms, _OPSET_23),
    Rewrite(fuse_attention, ("trt10.14",)),
    Rewrite(fuse_heads, ("ort-cpu",)),
)

_log = logging.getLogger(__name__)


def apply_rewrites(graph: gs.Graph, merges: MergeGrids) -> list[dict]:
    """Run the rewrites for every target, in order.

    Returns:
        the manifest's record: ``[{"name", "fired", "refused"}]``.
    """
    return _apply([rewrite for rewrite in REWRITES if rewrite.targets is None], graph, merges)


def apply_forms(graph: gs.Graph, merges: MergeGrids, target: str) -> list[dict]:
    """Run the rewrites that are for ``target`` in particular, in order; returns their record."""
    return _apply([rewrite for rewrite in REWRITES if target in (rewrite.targets or ())], graph, merges)


def _apply(rewrites: list[Rewrite], graph: gs.Graph, merges: MergeGrids) -> list[dict]:
    records = []
    for rewrite in rewrites:
        outcome = rewrite.run(graph, merges)
        graph.cleanup().toposort()
        for reason in outcome.refused:
            _log.info("%s refused: %s", rewrite.name, reason)
        records.append({"name": rewrite.name, "fired": outcome.fired, "refused": list(outcome.refused)})
    return records


__all__ = ["REWRITES", "MergeGrid", "MergeGrids", "Outcome", "Rewrite", "apply_forms", "apply_rewrites"]
