"""What every tensor of the graph holds on given pictures, and what half precision would make of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs
import torch
from torch import Tensor

from .half_arithmetic import GraphInterpreter
from .tower import INPUT


@dataclass
class TensorRange:
    """A tensor over all pictures.

    Attributes:
        max_abs: largest magnitude.
        rounding: relative error of rounding it to half, ‖x − half(x)‖ / ‖x‖; inf where it overflows. Within half's
            normal numbers it is at most 2⁻¹¹, so more means that values fell to subnormals or to zero.
    """

    max_abs: float = 0.0
    _squares: float = 0.0
    _errors: float = 0.0

    @property
    def rounding(self) -> float:
        return (self._errors / self._squares) ** 0.5 if self._squares else 0.0

    def add(self, tensor: Tensor, half: torch.dtype) -> None:
        """Take in one more value of the tensor, in FP32."""
        if not tensor.numel():
            return
        values = tensor.float()
        self.max_abs = max(self.max_abs, float(values.abs().max()))
        # Scaled by the largest magnitude, so that squares neither overflow nor vanish.
        scale = self.max_abs or 1.0
        self._squares += float((values / scale).square().sum(dtype=torch.float64)) * scale**2
        self._errors += float(((values - values.to(half).float()) / scale).square().sum(dtype=torch.float64)) * scale**2


def measure_ranges(
    graph: gs.Graph, pictures: Iterable[np.ndarray], half: torch.dtype = torch.float16
) -> dict[str, TensorRange]:
    """Run the FP32 graph on each picture ``[1, 3, H, W]`` and measure every floating-point tensor, weights included."""
    ranges: dict[str, TensorRange] = {}

    def observe(name: str, tensor: Tensor) -> None:
        if tensor.is_floating_point():
            ranges.setdefault(name, TensorRange()).add(tensor, half)

    interpreter = GraphInterpreter(graph)
    for picture in pictures:
        observe(INPUT, torch.from_numpy(picture))
        interpreter.run({INPUT: picture}, (), observe)
    return ranges | constant_ranges(graph, half)


def constant_ranges(graph: gs.Graph, half: torch.dtype = torch.float16) -> Mapping[str, TensorRange]:
    """The ranges of the graph's floating-point constants."""
    ranges = {}
    for tensor in graph.tensors().values():
        if isinstance(tensor, gs.Constant) and tensor.values.dtype.kind == "f":
            ranges[tensor.name] = TensorRange()
            ranges[tensor.name].add(torch.from_numpy(np.array(tensor.values)), half)
    return ranges
