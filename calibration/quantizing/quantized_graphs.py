"""An INT8 bundle on disk: the quantised graphs over one weight file, and everything else as it was."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx_graphsurgeon as gs

from laco_export.bundle import Bundle, Vision, VisionGraph
from laco_export.exporter.external_data import WeightFile, graph_from_file
from laco_export.exporter.half_conversion import convert_to_half
from laco_export.exporter.precision import choose_fp32
from laco_export.exporter.ranges import measure_ranges
from laco_export.exporter.structural_gates import check_structure
from laco_export.exporter.targets import TARGETS
from laco_export.exporter.vision_graph import WEIGHTS, count_nodes, write_graphs
from laco_export.manifest_schema import EIGHT_BIT_PRODUCTS, SEVEN_BIT_PRODUCTS
from laco_export.number_formats import U8S7, U8S8, NumberFormat
from laco_export.quiet import quiet

from ..graph.linear_layers import find_blocks
from ..smoothing.fold import find_folds, fold_scales
from . import FORMS, Placement

FALLBACK_WEIGHTS = "vision.fp16.data"
_ISLAND_PICTURES = 4
"""Pictures on which the ranges for FP32 islands are measured, node by node."""


class QuantizedGraphs:
    """Makes the quantised graphs of a bundle, one per batch size, from one placement.

    Args:
        bundle: the FP32 bundle.
        target: who will read them, a name of :data:`~laco_export.exporter.targets.TARGETS`.
        scales: Linear input → smoothing scales.
        pictures: ``pixel_values [1, 3, H, W]`` for the FP32 islands of a half-precision base.
    """

    def __init__(self, bundle: Bundle, target: str, scales: Mapping[str, np.ndarray], pictures: Sequence[np.ndarray]):
        self.bundle, self.target, self.form, self.scales = bundle, target, FORMS[target], scales
        self.pictures = list(pictures[:_ISLAND_PICTURES])
        self._islands: dict[bool, dict[str, str]] = {}

    def write(self, folder: Path, placement: Placement, twin: Placement | None = None) -> Vision:
        """Write the graphs and ``vision.data`` into ``folder``.

        Args:
            twin: of a second graph of each batch.

        Returns:
            the manifest's record, with the FP16 graphs beside it where the form's base is half precision and
            activations are quantised too.
        """
        vision = self.bundle.manifest.vision
        for graph in vision.graphs:  # of an earlier choice
            (folder / twin_name(graph.file)).unlink(missing_ok=True)
        entries, twins, opset, islands, nodes = [], [], 0, {}, {}
        with quiet(), WeightFile(folder / WEIGHTS) as weights:
            for graph in vision.graphs:
                quantized, islands = self._quantized(graph, placement)
                entries += self._write(graph.file, graph.batch, quantized, folder, weights)
                opset, nodes = quantized.opset, count_nodes(quantized)
                del quantized
                gc.collect()  # graphs are circular, and each holds all weights
            for graph in vision.graphs if twin is not None else ():
                quantized, _ = self._quantized(graph, twin)
                twins += map(asdict, self._write(twin_name(graph.file), graph.batch, quantized, folder, weights))
                del quantized
                gc.collect()
        record = replace(
            vision,
            graphs=entries,
            weights=WEIGHTS,
            opset=opset,
            precision=placement.number_format.name,
            target=self.target,
            kept_fp32=[{"node": node, "reason": reason} for node, reason in islands.items()],
            nodes=nodes,
            products=_products(placement.number_format),
            twin={"products": _products(twin.number_format), "graphs": twins} if twins else None,
        )
        if self.form.base == "fp16":
            self._check(folder, record)
            if placement.number_format.activations is not None:  # weights alone are for memory: not to be outrun
                record = replace(record, fallback=self._write_fallback(folder))
        return record

    def _write_fallback(self, folder: Path) -> dict:
        """The FP16 graphs of the same tower: what INT8 is timed against on the device."""
        entries = []
        with quiet(), WeightFile(folder / FALLBACK_WEIGHTS) as weights:
            for graph in self.bundle.manifest.vision.graphs:
                half = graph_from_file(self.bundle.file(graph.file))
                convert_to_half(half, self._islands_of(smoothed=False))
                file = graph.file.removesuffix(".onnx") + ".fp16.onnx"
                entries += map(asdict, self._write(file, graph.batch, half, folder, weights))
                del half
                gc.collect()
        return {"precision": "fp16", "weights": FALLBACK_WEIGHTS, "graphs": entries}

    def _quantized(self, graph: VisionGraph, placement: Placement) -> tuple[gs.Graph, dict[str, str]]:
        islands = dict(self._islands_of(smoothed=True)) if self.form.base == "fp16" else {}
        quantized = graph_from_file(self.bundle.file(graph.file))
        fold_scales(quantized, find_folds(quantized, find_blocks(quantized)), self.scales)
        if self.form.base != "fp16":
            self.form.place(quantized, placement)
            return quantized, islands
        self.form.place(quantized, replace(placement, kept_fp32=islands))
        convert_to_half(quantized, islands)
        return quantized, islands

    def _islands_of(self, *, smoothed: bool) -> dict[str, str]:
        if smoothed not in self._islands:
            graph = graph_from_file(self.bundle.file(self.bundle.manifest.vision.graphs[0].file))
            if smoothed:
                fold_scales(graph, find_folds(graph, find_blocks(graph)), self.scales)
            self._islands[smoothed] = choose_fp32(graph, measure_ranges(graph, self.pictures))
            del graph
            gc.collect()
        return self._islands[smoothed]

    def _write(self, file: str, batch: int, graph: gs.Graph, folder: Path, weights: WeightFile) -> list[VisionGraph]:
        ir_version = self.bundle.manifest.vision.ir_version
        return write_graphs([(file, batch, graph)], folder, weights, ir_version=ir_version)

    def _check(self, folder: Path, vision: Vision) -> None:
        for graph in vision.graphs:
            check_structure(folder / graph.file, TARGETS[vision.target])


def twin_name(file: str) -> str:
    """``vision_b1.u8s7.onnx`` of ``vision_b1.onnx``."""
    return f"{file.removesuffix('.onnx')}.{SEVEN_BIT_PRODUCTS}.onnx"


def _products(number_format: NumberFormat) -> str | None:
    """The manifest's name of the products that a CPU computes of the format's numbers."""
    return {U8S8: EIGHT_BIT_PRODUCTS, U8S7: SEVEN_BIT_PRODUCTS}.get(number_format)


def carry(bundle: Bundle, folder: Path) -> None:
    """Everything of the bundle but its vision graphs: hard links where the disk is the same, copies elsewhere."""
    vision = bundle.manifest.vision
    left_out = {vision.weights, *(graph.file for graph in vision.graphs)}
    for name in bundle.manifest.files:
        if name in left_out or (folder / name).exists():
            continue
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with bundle.open(name) as file:
            if not _link(bundle.file(name), file, folder / name):  # another disk, or one without hard links
                with open(folder / name, "wb") as copy:
                    shutil.copyfileobj(file, copy)


def _link(path: Path, verified: BinaryIO, target: Path) -> bool:
    """Whether ``target`` is a hard link to the file that was verified, which ``path`` may not name any more."""
    try:
        os.link(path, target)
    except OSError:
        return False
    if os.path.samestat(os.fstat(verified.fileno()), os.lstat(target)):
        return True
    target.unlink()
    return False
