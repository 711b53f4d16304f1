"""What one run of a vision graph costs by arithmetic: operations, weights, activations.

Read from the ONNX file without its weights. A multiply-add counts as two; matrix products and convolutions are counted,
the rest (norms, activations, softmax) is below 1 % of a ViT.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import prod
from pathlib import Path

TYPE_NAMES = {1: "fp32", 10: "fp16", 16: "bf16", 3: "int8", 2: "int8", 17: "fp8"}
"""ONNX's number of a tensor type -> the name that :class:`~laco_engines.devices.profiles.DeviceProfile` uses."""
_BITS = {1: 32, 2: 8, 3: 8, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 16: 16, 17: 8, 21: 4, 22: 4}
INTEGER_PRODUCTS = ("MatMulInteger", "MatMulIntegerToFloat", "MatMulNBits")
"""Operators that multiply in eight bits whatever they take: ONNX Runtime's own and ONNX's."""


@dataclass(frozen=True)
class GraphCost:
    """One run of a graph.

    Attributes:
        flops: operations by the type that is multiplied, ``{"fp16": …}``; where both factors are dequantised, the type
            that they are stored in.
        weight_bytes: of all initializers.
        input_bytes, output_bytes: of the graph.
        activation_bytes: the most that is alive at once if nodes run in order and nothing is fused.
    """

    flops: dict[str, int]
    weight_bytes: int
    input_bytes: int
    output_bytes: int
    activation_bytes: int

    @property
    def total_flops(self) -> int:
        return sum(self.flops.values())

    @property
    def least_traffic(self) -> int:
        """Bytes that must cross the memory bus: each weight once, the input and the output."""
        return self.weight_bytes + self.input_bytes + self.output_bytes


def graph_cost(path: Path | str) -> GraphCost:
    """Count the cost of an ONNX file; all its shapes are static.

    Raises:
        ModuleNotFoundError: the package ``onnx`` is not installed.
    """
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    model = onnx.shape_inference.infer_shapes(model)  # of operators that ONNX does not know, the file states the shapes
    graph = model.graph
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    tensors = {name: (tensor.data_type, tuple(tensor.dims)) for name, tensor in initializers.items()}
    for value in (*graph.input, *graph.output, *graph.value_info):
        kind = value.type.tensor_type
        tensors[value.name] = (kind.elem_type, tuple(dimension.dim_value for dimension in kind.shape.dim))
    produced_by = {output: node for node in graph.node for output in node.output}
    flops: Counter[str] = Counter()
    for node in graph.node:
        operations = _operations(node, tensors)
        if operations:
            flops[_multiplied_type(node, tensors, produced_by)] += operations
    return GraphCost(
        flops=dict(flops),
        weight_bytes=sum(tensor_bytes(tensors[name]) for name in initializers),
        input_bytes=sum(tensor_bytes(tensors[value.name]) for value in graph.input),
        output_bytes=sum(tensor_bytes(tensors[value.name]) for value in graph.output),
        activation_bytes=_peak_activations(graph, tensors, set(initializers)),
    )


def _operations(node, tensors: dict) -> int:
    """Operations of a node that multiplies matrices, else 0."""
    shape = lambda name: tensors[name][1]
    if node.op_type in ("MatMul", "MatMulInteger", "MatMulIntegerToFloat", "MatMulNBits"):
        return 2 * prod(shape(node.output[0])) * shape(node.input[0])[-1]  # [.., M, K] x [.., K, N] -> [.., M, N]
    if node.op_type == "Gemm":
        transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
        return 2 * prod(shape(node.output[0])) * shape(node.input[0])[0 if transposed else 1]
    if node.op_type == "Conv":
        return 2 * prod(shape(node.output[0])) * prod(shape(node.input[1])[1:])  # weight [out, in / groups, kh, kw]
    if node.op_type == "Attention":  # opset 23, [B, heads, T, d] or [B, T, heads * d]: two products of T x T x D
        query, key = shape(node.input[0]), shape(node.input[1])
        return 4 * prod(query) * key[-2]
    return 0


def _multiplied_type(node, tensors: dict, produced_by: dict) -> str:
    if node.op_type in INTEGER_PRODUCTS:
        return "int8"
    makers = [produced_by.get(name) for name in node.input[:2]]
    if len(makers) == 2 and all(maker is not None and maker.op_type == "DequantizeLinear" for maker in makers):
        return TYPE_NAMES.get(tensors[makers[0].input[0]][0], "int8")
    return TYPE_NAMES.get(tensors[node.input[0]][0], "fp32")


def _peak_activations(graph, tensors: dict, constants: set[str]) -> int:
    last_use = {name: index for index, node in enumerate(graph.node) for name in node.input}
    last_use.update({value.name: len(graph.node) for value in graph.output})
    alive = sum(tensor_bytes(tensors[value.name]) for value in graph.input if value.name not in constants)
    peak = alive
    for index, node in enumerate(graph.node):
        alive += sum(tensor_bytes(tensors[name]) for name in node.output if name in tensors)
        peak = max(peak, alive)
        ended = {name for name in node.input if last_use.get(name) == index and name not in constants}
        alive -= sum(tensor_bytes(tensors[name]) for name in ended if name in tensors)
    return peak


def tensor_bytes(tensor: tuple[int, tuple[int, ...]]) -> int:
    """Of a tensor: ONNX's number of its type, and its shape."""
    dtype, shape = tensor
    return -(-_BITS.get(dtype, 32) * prod(shape) // 8)
