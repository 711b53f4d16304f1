"""A graph, node by node, in the arithmetic that is written into it: FP32, FP16, bfloat16, INT8 or FP8.

Every node reads and writes the dtypes that the graph states, by torch kernels: what overflows on a device becomes inf
here. ONNX Runtime's CPU provider instead upcasts FP16 to FP32, has no bfloat16 and no FP8, and multiplies INT8 as the
processor at hand does, so that it proves nothing about a device. On the FP32 graph the same run measures the range of
every tensor.

    interpreter = GraphInterpreter(graph_from_file(bundle / "vision_b1.onnx"))
    features = interpreter.run({"pixel_values": values}, ["image_features"])["image_features"]
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping

import ml_dtypes
import numpy as np
import onnx_graphsurgeon as gs
import torch
from torch import Tensor

from ..errors import ExportError
from .half_formats import BF16
from .kernels import KERNELS

TensorObserver = Callable[[str, Tensor], None]
_MIXED = ("Cast", "QuantizeLinear", "DequantizeLinear")  # the operators whose output dtype is not that of their inputs


class KernelGraph:
    """A GraphSurgeon graph whose every operator has a kernel, in the order in which it is computed.

    Attributes:
        nodes: in that order.
        last_use: tensor name → the index of the last node that reads it.

    Raises:
        ExportError: the graph has an operator that no kernel is known for.
    """

    def __init__(self, graph: gs.Graph):
        self.nodes = list(graph.toposort().nodes)
        unknown = sorted({node.op for node in self.nodes} - set(KERNELS))
        if unknown:
            raise ExportError(
                "the graph has operators that cannot be judged node by node",
                given=", ".join(unknown),
                allowed=", ".join(sorted(KERNELS)),
                todo="add a kernel to laco_export/exporter/kernels.py",
            )
        self._constants: dict[str, Tensor] = {}
        self.last_use: dict[str, int] = {}
        for index, node in enumerate(self.nodes):
            for tensor in node.inputs:
                self.last_use[tensor.name] = index
                if isinstance(tensor, gs.Constant) and tensor.name not in self._constants:
                    self._constants[tensor.name] = to_torch(tensor.values)

    def inputs_of(self, node: gs.Node, values: Mapping[str, Tensor]) -> list[Tensor | None]:
        """What ``node`` reads, from its constants and the computed ``values``; None where an input is left out."""
        return [
            None if tensor.is_empty() else self._constants.get(tensor.name, values.get(tensor.name))
            for tensor in node.inputs
        ]

    def free_after(self, index: int, values: dict[str, Tensor]) -> None:
        """Take out of ``values`` what no node behind the one at ``index`` reads."""
        for tensor in self.nodes[index].inputs:
            if self.last_use.get(tensor.name) == index:
                values.pop(tensor.name, None)


class GraphInterpreter(KernelGraph):
    """Runs a graph with torch kernels on the CPU, each node in the dtypes that the graph states."""

    @torch.inference_mode()
    def run(
        self,
        feeds: Mapping[str, np.ndarray],
        wanted: Iterable[str],
        observe: TensorObserver | None = None,
        forced: Mapping[str, np.ndarray] | None = None,
    ) -> dict[str, np.ndarray]:
        """Compute the tensors named ``wanted``; every other one is freed after its last use.

        Args:
            feeds: the graph's inputs, in the dtypes that it declares.
            observe: called with the name and value of each node's output as it is computed.
            forced: values to go on with in place of the computed ones, cast to their dtype: with PyTorch's value at
                each block's end, every block starts from the right input and shows its own error alone.
        """
        forced = forced or {}
        wanted = set(wanted)
        values: dict[str, Tensor] = {name: to_torch(value) for name, value in feeds.items()}
        results = {}
        for index, node in enumerate(self.nodes):
            outputs = self._compute(node, values)
            for tensor, output in zip(node.outputs, outputs):
                if observe is not None:
                    observe(tensor.name, output)
                if tensor.name in wanted:
                    results[tensor.name] = to_numpy(output)
                if tensor.name in forced:
                    output = to_torch(forced[tensor.name]).to(output.dtype).reshape(output.shape)
                values[tensor.name] = output
            self.free_after(index, values)
        return results

    def _compute(self, node: gs.Node, values: dict[str, Tensor]) -> tuple[Tensor, ...]:
        inputs = self.inputs_of(node, values)
        floats = {tensor.dtype for tensor in inputs if tensor is not None and tensor.is_floating_point()}
        if len(floats) > 1 and node.op not in _MIXED:
            # Torch would promote silently; a strongly typed network is refused by TensorRT.
            raise ExportError(
                f"the graph is not strongly typed: {node.name} mixes " + " and ".join(sorted(map(str, floats))),
                todo="report this: the precision step left out a Cast",
            )
        output = KERNELS[node.op](node.attrs, inputs)
        return output if isinstance(output, tuple) else (output,)


def to_torch(values: np.ndarray) -> Tensor:
    """A tensor over the array's memory, not to be written to. Takes ``ml_dtypes``' bfloat16, float8_e4m3fn and int4
    (as int8)."""
    values = np.asarray(values)
    if any(stride < 0 for stride in values.strides):  # torch has none such
        values = values.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # read-only memory (a mapped checkpoint): nothing here writes
        if values.dtype == BF16.numpy:
            return torch.from_numpy(values.view(np.int16)).view(torch.bfloat16)
        if values.dtype == ml_dtypes.float8_e4m3fn:
            return torch.from_numpy(values.view(np.uint8)).view(torch.float8_e4m3fn)
        if values.dtype == ml_dtypes.int4:
            return torch.from_numpy(values.astype(np.int8))
        return torch.from_numpy(values)


def to_numpy(tensor: Tensor) -> np.ndarray:
    """An array over the tensor's memory; bfloat16, which numpy has not, becomes float32."""
    return tensor.float().numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()
