"""The vision tower as one static graph per batch size, in the precision asked for, on disk over one weight file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs

from ..bundle import TensorSpec, Vision, VisionGraph
from ..quiet import quiet
from .batching import at_batch
from .external_data import WeightFile, write_graph
from .half_conversion import convert_to_half
from .half_formats import HalfFormat
from .rewrites import MergeGrid, MergeGrids, apply_forms, apply_rewrites
from .targets import Target
from .tower import VisionTower
from .tracing import graph_from_tower

VISION, WEIGHTS = "vision", "vision.data"
NEWEST_TRACED = 20
"""The newest opset to trace at: from 23 on torch's exporter writes forms of its own choice."""


@dataclass(frozen=True)
class TracedGraph:
    """A rewritten graph before it is written; its outputs are ``image_features`` and every boundary.

    Attributes:
        merges: those that were traced, in order.
        name: what its files begin with.
    """

    graph: gs.Graph
    merges: MergeGrids
    batch: int
    nodes_before: dict[str, int]
    rewrites: list[dict]
    kept_fp32: dict[str, str]
    name: str = VISION

    @property
    def file(self) -> str:
        return f"{self.name}_b{self.batch}.onnx"


def trace_and_rewrite(
    tower: VisionTower, pixel_shape: tuple[int, ...], *, opset: int, name: str = VISION
) -> TracedGraph:
    """Trace ``tower`` at ``[1, 3, H, W]`` and run the rewrites for every target."""
    with quiet():
        # Opset 23 changed none of the operators that a tower traces to at 20: their forms are chosen by the rewrites.
        graph = graph_from_tower(tower, pixel_shape, opset=min(opset, NEWEST_TRACED))
        graph.opset = opset
        before = count_nodes(graph)
        merges = MergeGrid.of_tower(tower.vision_model)
        rewrites = apply_rewrites(graph, merges)
    return TracedGraph(graph, merges, pixel_shape[0], before, rewrites, {}, name)


def in_half(traced: Sequence[TracedGraph], kept_fp32: dict[str, str], form: HalfFormat) -> list[TracedGraph]:
    """Copies in half precision, with the nodes named in ``kept_fp32`` left in FP32; ``traced`` stays as it is."""
    copies = [replace(fp32, graph=fp32.graph.copy(), kept_fp32=kept_fp32) for fp32 in traced]
    with quiet():
        for copy in copies:
            convert_to_half(copy.graph, kept_fp32, form)
    return copies


def for_target(traced: TracedGraph, target: Target, batches: Sequence[int]) -> list[TracedGraph]:
    """Copies of the graph at batch 1 in the target's forms, one per batch size; ``traced`` stays as it is."""
    with quiet():
        graph = traced.graph.copy()
        forms = apply_forms(graph, traced.merges, target.name)
        formed = replace(traced, graph=graph, rewrites=[*traced.rewrites, *forms])
        return [
            replace(formed, graph=at_batch(graph, batch), batch=batch) if batch > 1 else formed for batch in batches
        ]


def write_vision(traced: Sequence[TracedGraph], folder: Path, *, precision: str, target: Target) -> Vision:
    """:func:`append_vision` into a weight file that holds nothing else, in ``folder``."""
    with WeightFile(folder / WEIGHTS) as weights:
        return append_vision(traced, weights, precision=precision, target=target)


def append_vision(traced: Sequence[TracedGraph], weights: WeightFile, *, precision: str, target: Target) -> Vision:
    """Write each graph over the one weight file, and the first with its boundaries marked beside it.

    Args:
        weights: what it holds already, of graphs at other depths, is not written twice.

    Returns:
        the manifest's record of the graphs.
    """
    first, folder = traced[0], weights.path.parent
    with quiet():
        write_graph(first.graph, folder / marked(first.file), weights, ir_version=target.max_ir)
        for entry in traced:
            entry.graph.outputs = entry.graph.outputs[:1]
        graphs = [(entry.file, entry.batch, entry.graph) for entry in traced]
        written = write_graphs(graphs, folder, weights, ir_version=target.max_ir)
    weights.flush()
    return Vision(
        graphs=written,
        weights=weights.path.name,
        opset=first.graph.opset,
        ir_version=target.max_ir,
        precision=precision,
        target=target.name,
        kept_fp32=[{"node": node, "reason": reason} for node, reason in first.kept_fp32.items()],
        rewrites=first.rewrites,
        nodes=count_nodes(first.graph),
        nodes_before=first.nodes_before,
    )


def write_graphs(
    graphs: Iterable[tuple[str, int, gs.Graph]], folder: Path, weights: WeightFile, *, ir_version: int
) -> list[VisionGraph]:
    """Write graphs over one weight file.

    Args:
        graphs: file name, batch size and graph of each. They may be made one after another: nothing is held of a
            graph once it is written.

    Returns:
        the manifest's entries.
    """
    written = []
    for file, batch, graph in graphs:
        write_graph(graph, folder / file, weights, ir_version=ir_version)
        written.append(VisionGraph(file, batch, _spec(graph.inputs[0]), _spec(graph.outputs[0])))
        del graph
    return written


def marked(file: str) -> str:
    """The name of the same graph with its boundaries as outputs: for the comparison, never part of a bundle."""
    return file.removesuffix(".onnx") + ".marked.onnx"


def count_nodes(graph: gs.Graph) -> dict[str, int]:
    """Node count by operator, the most frequent first."""
    return dict(Counter(node.op for node in graph.nodes).most_common())


def _spec(tensor: gs.Tensor) -> TensorSpec:
    return TensorSpec(tensor.name, np.dtype(tensor.dtype).name, tuple(tensor.shape))
