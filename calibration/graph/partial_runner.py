"""Parts of the graph by torch's kernels, with Linear layers swapped for what their numbers would make of them.

A block's error is what reaches the projector when that block alone is swapped. The tensors that are alive where the
block begins are kept from one pass of the whole graph, so a swap costs only what comes after it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import numpy as np
import onnx_graphsurgeon as gs
import torch
from torch import Tensor

from laco_export.bundle import IMAGE_FEATURES, PIXEL_VALUES
from laco_export.exporter.interpreter import KernelGraph, to_torch
from laco_export.exporter.kernels import KERNELS
from laco_export.number_formats import ACTIVATION_LIMITS, LARGEST, Scaling

from .linear_layers import block_of

Override = Callable[[gs.Node, Tensor, Tensor], "Tensor | None"]
"""``override(node, left, right)``: the product of a Linear or of attention's MatMul, or None for its own."""


class SegmentRunner(KernelGraph):
    """Runs an FP32 GraphSurgeon graph, whole or from a block on.

    Args:
        graph: its constants are used where they are; it must not change while this is in use.
    """

    def __init__(self, graph: gs.Graph):
        super().__init__(graph)
        self._spans = self._find_spans()

    def _find_spans(self) -> dict[str, tuple[int, int]]:
        """Block → its first node and the one after its last."""
        spans: dict[str, tuple[int, int]] = {}
        for index, node in enumerate(self.nodes):
            name = block_of(node.name)
            if name is not None:
                spans[name] = (spans.get(name, (index, 0))[0], index + 1)
        return spans

    def outputs_of(self, block: str) -> list[str]:
        """The tensors that a block computes and later nodes read, or the graph gives out."""
        start, end = self._spans[block]
        return [
            tensor.name
            for node in self.nodes[start:end]
            for tensor in node.outputs
            if self.last_use.get(tensor.name, -1) >= end or tensor.name == IMAGE_FEATURES
        ]

    @torch.inference_mode()
    def run(self, pixel_values: np.ndarray, override: Override | None = None) -> Tensor:
        """The whole graph: ``image_features``."""
        return self._run(0, len(self.nodes), {PIXEL_VALUES: to_torch(pixel_values)}, override)[IMAGE_FEATURES]

    @torch.inference_mode()
    def run_with_cuts(self, pixel_values: np.ndarray, blocks: Collection[str]) -> tuple[Tensor, dict[str, dict]]:
        """The whole graph, and for each block the tensors that are alive where it begins."""
        starts = {self._spans[name][0]: name for name in blocks}
        cuts: dict[str, dict] = {}

        def at(index: int, values: dict[str, Tensor]) -> None:
            if index in starts:
                cuts[starts[index]] = dict(values)

        values = self._run(0, len(self.nodes), {PIXEL_VALUES: to_torch(pixel_values)}, None, at=at)
        return values[IMAGE_FEATURES], cuts

    @torch.inference_mode()
    def run_from(self, block: str, cut: Mapping[str, Tensor], override: Override | None) -> Tensor:
        """From a block's first node to ``image_features``."""
        return self._run(self._spans[block][0], len(self.nodes), dict(cut), override)[IMAGE_FEATURES]

    @torch.inference_mode()
    def run_block(self, block: str, cut: Mapping[str, Tensor], override: Override | None = None) -> Tensor:
        """One block alone: its last output."""
        return self._run(*self._spans[block], dict(cut), override)[self.outputs_of(block)[-1]]

    def _run(self, start: int, end: int, values: dict[str, Tensor], override: Override | None, at=None) -> dict:
        for index in range(start, end):
            node = self.nodes[index]
            if at is not None:
                at(index, values)
            inputs = self.inputs_of(node, values)
            output = None
            if override is not None and node.op == "MatMul":
                output = override(node, *inputs)
            if output is None:
                output = KERNELS[node.op](node.attrs, inputs)
            for tensor, value in zip(node.outputs, output if isinstance(output, tuple) else (output,)):
                values[tensor.name] = value
            self.free_after(index, values)
        return values


def rounded(tensor: Tensor, scaling: Scaling) -> Tensor:
    """A tensor's values after a trip through ``scaling``'s numbers: float32, same shape."""
    scale = float(scaling.scale)
    if scaling.kind == "fp8":
        return (tensor / scale).clamp(-LARGEST["fp8"], LARGEST["fp8"]).to(torch.float8_e4m3fn).float() * scale
    lowest, highest = ACTIVATION_LIMITS[scaling.kind]
    numbers = (tensor / scale).round_().add_(scaling.zero_point).clamp_(lowest, highest)
    return numbers.sub_(scaling.zero_point).mul_(scale)
