"""MatMuls in another number format, for :class:`~laco_calibration.graph.partial_runner.SegmentRunner`."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import onnx_graphsurgeon as gs
import torch
from torch import Tensor

from laco_export.exporter.kernels import KERNELS
from laco_export.number_formats import ROWS_PER_SCALE, NumberFormat, QuantizedWeight, Scaling, quantize_weight, scaling

from ..graph.partial_runner import rounded


class Swap:
    """The MatMuls of the blocks named in ``active`` compute in ``number_format``; the others as they are.

    Weights are rounded once and kept as the eight-bit numbers that they are.

    Args:
        ranges: input of a MatMul → the range that is kept of it.
        block_of_node: the MatMuls to swap → their blocks.
        half_scales: scales rounded to half, as the graph will hold them.
    """

    def __init__(
        self,
        number_format: NumberFormat,
        ranges: Mapping[str, tuple[float, float]],
        block_of_node: Mapping[str, str],
        *,
        half_scales: bool,
    ):
        self.number_format, self.half_scales = number_format, half_scales
        self._block_of = block_of_node
        self._scalings: dict[str, Scaling] = {}
        if number_format.activations is not None:
            self._scalings = {
                name: scaling(number_format.activations, *bounds, half_scales=half_scales)
                for name, bounds in ranges.items()
            }
        self._weights: dict[str, QuantizedWeight] = {}
        self.active: Collection[str] = ()

    def __call__(self, node: gs.Node, x: Tensor, weight: Tensor) -> Tensor | None:
        if self._block_of.get(node.name) not in self.active:
            return None
        if not isinstance(node.inputs[1], gs.Constant):
            return self._rounded(node, 0, x) @ self._rounded(node, 1, weight)
        if node.name not in self._weights:
            self._weights[node.name] = quantize_weight(
                self.number_format.weights, weight.numpy(), half_scales=self.half_scales
            )
        return KERNELS["MatMul"]({}, [self._rounded(node, 0, x), _to_torch(self._weights[node.name])])

    def _rounded(self, node: gs.Node, index: int, tensor: Tensor) -> Tensor:
        input_scaling = self._scalings.get(node.inputs[index].name)
        return tensor if input_scaling is None else rounded(tensor, input_scaling)


def _to_torch(weight: QuantizedWeight) -> Tensor:
    """float32 ``[in, out]``."""
    if weight.kind == "fp8":
        return torch.from_numpy(weight.dequantized())
    values, scales = torch.from_numpy(weight.values).float(), torch.from_numpy(weight.scales)
    if weight.kind == "int4":
        scales = scales.repeat_interleave(ROWS_PER_SCALE, 0)[: len(values)]
    return values.mul_(scales)
