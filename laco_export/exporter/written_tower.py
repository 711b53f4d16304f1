"""The vision tower on disk: one graph per batch size in its final precision and forms, over one weight file, which
towers at other depths may share."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..bundle import Vision
from . import vision_graph
from .external_data import WeightFile
from .half_formats import HalfFormat
from .options import ExportOptions
from .structural_gates import check_structure


@dataclass(frozen=True)
class WrittenTower:
    """The graph files of a bundle that is being built.

    Attributes:
        weights: the weight file, in the bundle's folder; begin: its end before these files were written.
        vision: the manifest's record of them.
    """

    weights: WeightFile
    begin: int
    vision: Vision

    @property
    def folder(self) -> Path:
        return self.weights.path.parent

    @property
    def files(self) -> dict[int, Path]:
        """Batch size → graph file."""
        return {graph.batch: self.folder / graph.file for graph in self.vision.graphs}

    @property
    def shipped(self) -> Path:
        """The graph of one picture, as it will be in the bundle."""
        return self.files[1]

    @property
    def marked(self) -> Path:
        """The same graph with its boundaries as outputs: for the comparison, never part of a bundle."""
        return self.folder / vision_graph.marked(self.shipped.name)

    def written_again(
        self,
        traced: vision_graph.TracedGraph,
        half_format: HalfFormat,
        kept_fp32: Mapping[str, str],
        options: ExportOptions,
    ) -> WrittenTower:
        """:func:`write_tower` in the place of these files."""
        self.weights.cut_back(self.begin)
        return write_tower(traced, half_format, kept_fp32, self.weights, options)


def write_tower(
    traced: vision_graph.TracedGraph,
    half_format: HalfFormat | None,
    kept_fp32: Mapping[str, str],
    weights: WeightFile,
    options: ExportOptions,
) -> WrittenTower:
    """Write ``traced``, which stays as it is, in the precision and the target's forms, and check each file.

    Args:
        half_format: None writes FP32.
        kept_fp32: node name → why it stays FP32.
        weights: what the graphs' constants are appended to.

    Raises:
        ExportError: the structural gate refuses a file.
    """
    begin = weights.end
    written = WrittenTower(weights, begin, _write(traced, half_format, kept_fp32, weights, options))
    gc.collect()  # the half weights: graphs are circular
    for path in written.files.values():
        check_structure(path, options.reader)
    return written


def _write(traced, half_format, kept_fp32, weights: WeightFile, options: ExportOptions) -> Vision:
    """The copies of the graph live no longer than this function."""
    converted = traced
    if half_format is not None:
        (converted,) = vision_graph.in_half([traced], dict(kept_fp32), half_format)
    formed = vision_graph.for_target(converted, options.reader, options.batches)
    return vision_graph.append_vision(formed, weights, precision=options.precision, target=options.reader)
