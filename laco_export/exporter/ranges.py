"""What every tensor of the graph holds on given pictures, and what half precision would make of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs
import torch
from torch import Tensor

from ..bundle import PIXEL_VALUES
from .interpreter import GraphInterpreter, to_torch

MOVING = ("Reshape", "Transpose", "Identity", "Squeeze", "Unsqueeze")
"""Operators whose output holds exactly their input's values: measured once."""


@dataclass
class TensorRange:
    """A tensor over all pictures.

    Attributes:
        max_abs: largest magnitude.
        rounding: relative error of rounding it to half, ‖x − half(x)‖ / ‖x‖; inf where it overflows. Half's normal
            numbers round by at most 2⁻¹¹ of themselves, so more means that values fell to subnormals or to zero. A
            tensor whose root mean square is no subnormal cannot lose that much, and is entered with 2⁻¹¹ unmeasured.
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
        limits = torch.finfo(half)
        low, high = torch.aminmax(tensor)
        largest = max(-float(low), float(high))
        norm = float(torch.linalg.vector_norm(tensor))
        self.max_abs = max(self.max_abs, largest)
        self._squares += norm**2
        # A subnormal rounds by at most half a step, smallest_normal·eps/2: over all values that is norm·eps/4 here.
        if largest <= limits.max and norm >= 2 * limits.smallest_normal * tensor.numel() ** 0.5:
            self._errors += (norm * limits.eps / 2) ** 2
        else:
            self._errors += float(torch.linalg.vector_norm(tensor - tensor.to(half).float())) ** 2


class RangeMeter:
    """Measures every floating-point tensor of a graph as an interpreter computes it: the interpreter's ``observe``.

    Attributes:
        ranges: tensor name → its range over all pictures so far, weights included.
    """

    def __init__(self, graph: gs.Graph, half: torch.dtype = torch.float16):
        self._half = half
        self._moved = {node.outputs[0].name: node.inputs[0].name for node in graph.nodes if node.op in MOVING}
        self._ranges = constant_ranges(graph, half)

    def __call__(self, name: str, tensor: Tensor) -> None:
        if tensor.is_floating_point() and name not in self._moved:
            self._ranges.setdefault(name, TensorRange()).add(tensor, self._half)

    @property
    def ranges(self) -> dict[str, TensorRange]:
        for name, source in self._moved.items():  # in the order of the graph, so chains resolve
            if source in self._ranges:
                self._ranges[name] = self._ranges[source]
        return self._ranges


def measure_ranges(
    graph: gs.Graph, pictures: Iterable[np.ndarray], half: torch.dtype = torch.float16
) -> dict[str, TensorRange]:
    """Run the FP32 graph on each picture ``[1, 3, H, W]`` and measure every floating-point tensor, weights included."""
    meter, interpreter = RangeMeter(graph, half), GraphInterpreter(graph)
    for picture in pictures:
        meter(PIXEL_VALUES, torch.from_numpy(picture))
        interpreter.run({PIXEL_VALUES: picture}, (), meter)
    return meter.ranges


def constant_ranges(graph: gs.Graph, half: torch.dtype = torch.float16) -> dict[str, TensorRange]:
    """The ranges of the graph's floating-point constants."""
    ranges = {}
    for tensor in graph.tensors().values():
        if isinstance(tensor, gs.Constant) and tensor.values.dtype.kind == "f":
            ranges[tensor.name] = TensorRange()
            ranges[tensor.name].add(to_torch(tensor.values), half)
    return ranges
