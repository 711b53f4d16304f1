"""FP32 graph to a strongly typed half-precision graph.

Every node runs in half or in FP32, and what it reads has exactly that dtype: a Cast stands wherever a tensor's dtype is
not its reader's, one per tensor and dtype. A tensor keeps the dtype of the node that wrote it, so between two FP32
neighbours there is no trip through half. The graph's input and output stay float32: whoever feeds it with numpy need
not know its precision, and the two Casts cost nothing beside the encoder.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from .external_data import ConvertedConstant
from .half_formats import BF16, FP16, HalfFormat
from .precision import FOLLOWING

FP32 = np.dtype(np.float32)


def convert_to_half(graph: gs.Graph, kept_fp32: Collection[str], form: HalfFormat = FP16) -> None:
    """Rewrite ``graph`` in place: the nodes named in ``kept_fp32`` stay FP32, the others take the half format."""
    _HalfConversion(graph, set(kept_fp32), form.numpy).run()


class _HalfConversion:
    def __init__(self, graph: gs.Graph, kept_fp32: set[str], half: np.dtype):
        self.graph, self.kept_fp32, self.half = graph.toposort(), kept_fp32, half
        self._casts: dict[tuple[str, np.dtype], gs.Variable] = {}
        self._constants: dict[tuple[str, np.dtype], gs.Constant] = {}

    def run(self) -> None:
        for node in list(self.graph.nodes):
            dtype = self._dtype_of(node)
            for index, tensor in enumerate(node.inputs):
                if _is_float(tensor) and node.op != "Cast":
                    node.inputs[index] = self._as(tensor, dtype)
            for tensor in node.outputs:
                if _is_float(tensor):
                    tensor.dtype = dtype
        self._restore_outputs()
        self.graph.cleanup().toposort()

    def _dtype_of(self, node: gs.Node) -> np.dtype:
        if node.op == "Cast":  # from integers: what tracing asked for
            return np.dtype(node.outputs[0].dtype)
        if node.name in self.kept_fp32:
            return FP32
        if node.op in FOLLOWING:
            dtypes = [tensor.dtype for tensor in node.inputs if _is_float(tensor) and isinstance(tensor, gs.Variable)]
            if dtypes:  # several (Concat): the widest, so that none loses range
                return FP32 if FP32 in dtypes else self.half
        return self.half

    def _as(self, tensor: gs.Tensor, dtype: np.dtype) -> gs.Tensor:
        if np.dtype(tensor.dtype) == dtype:
            return tensor
        if isinstance(tensor, gs.Constant):
            return self._constant(tensor, dtype)
        key = (tensor.name, dtype)
        if key not in self._casts:
            made_by = tensor.inputs[0].name if tensor.inputs and len(tensor.inputs[0].outputs) == 1 else tensor.name
            name = f"{made_by}/Cast_{dtype.name}"  # under its PyTorch module, like every node
            cast = gs.Variable(f"{name}:0", dtype=dtype, shape=tensor.shape)
            to = onnx.helper.np_dtype_to_tensor_dtype(dtype)
            self.graph.nodes.append(gs.Node("Cast", name, attrs={"to": to}, inputs=[tensor], outputs=[cast]))
            self._casts[key] = cast
        return self._casts[key]

    def _constant(self, constant: gs.Constant, dtype: np.dtype) -> gs.Constant:
        key = (constant.name, dtype)
        if key not in self._constants:
            name = f"{constant.name}.{dtype.name}"
            self._constants[key] = ConvertedConstant(name, constant.values, dtype)
        return self._constants[key]

    def _restore_outputs(self) -> None:
        """The graph's first output is float32 under its own name; boundaries keep the dtype that they have."""
        output = self.graph.outputs[0]
        if np.dtype(output.dtype) == FP32:
            return
        name = output.name
        output.name = f"{name}.{self.half.name}"
        widened = self._as(output, FP32)
        widened.name, widened.inputs[0].name = name, f"{name}/Cast_float32"
        self.graph.outputs[0] = widened


def _is_float(tensor: gs.Tensor) -> bool:
    """Floating point of 16 bits and more: float8, like INT8, is what a QuantizeLinear makes, and stays."""
    if tensor.is_empty() or tensor.dtype is None:
        return False
    dtype = np.dtype(tensor.dtype)
    return dtype.kind == "f" or dtype == BF16.numpy
