"""Explicit Q/DQ as TensorRT reads it.

::

    x ──▶ QuantizeLinear ──▶ DequantizeLinear ──┐
          (one scale, zero point 0)             ├─▶ MatMul
    W (int8) ──▶ DequantizeLinear (axis 1) ─────┘

Symmetric, zero point 0, one scale an output channel of a weight; Linear inputs and weights alone. Norms, GELU, softmax,
the merge's rearrangement and the attention MatMuls stay in the base precision: their traffic is small or their INT8
kernels are slower (NVIDIA's ModelOpt leaves the same out by default). Linear layers that read one tensor share its Q/DQ
pair, so that TensorRT quantises it once. ``com.microsoft`` operators are not used. An int8 weight's zero points are
written down for sessions that make it uint8 (:mod:`laco_export.onnx_session`).

Attention's two MatMuls are quantised where that is asked for and the sequence has at most 512 tokens, the limit of
TensorRT's fused INT8 attention: both inputs of each get a Q/DQ pair.

FP8 is the same with float8_e4m3fn and one scale a weight. Weight-only is the second row alone.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from laco_export.number_formats import ROWS_PER_SCALE, Scaling, quantize_weight, scaling

from .forms import EXPLICIT_QDQ
from .placement import Placement

_SERVES = "serves a MatMul that stays FP32"


def place_for_tensorrt(graph: gs.Graph, placement: Placement) -> None:
    """Put Q/DQ before the chosen Linear layers, in place."""
    shared: dict[str, gs.Variable] = {}
    islands: dict[str, str] = {}  # Q/DQ nodes that stay FP32 with the MatMul that they serve
    linears, products = placement.linears(graph), placement.products(graph)

    def quantize(node: gs.Node, index: int) -> None:
        source = node.inputs[index]
        if source.name not in shared:
            bounds = placement.ranges[source.name]
            input_scaling = scaling(placement.number_format.activations, *bounds, half_scales=True)
            shared[source.name] = _quantized_input(graph, source, input_scaling)
        if node.name in placement.kept_fp32:
            islands.update({f"{source.name}/{op}": _SERVES for op in ("QuantizeLinear", "DequantizeLinear")})
        node.inputs[index] = shared[source.name]

    for node in linears:
        if placement.number_format.activations is not None:
            quantize(node, 0)
        node.inputs[1] = _quantized_weight(graph, node, placement.number_format.weights)
        if node.name in placement.kept_fp32:
            islands[f"{node.name}/weight/DequantizeLinear"] = _SERVES
    for node in products:
        quantize(node, 0)
        quantize(node, 1)
    if isinstance(placement.kept_fp32, dict):
        placement.kept_fp32.update(islands)
    graph.opset = max(graph.opset, EXPLICIT_QDQ.opset[placement.number_format.name])
    graph.cleanup().toposort()


def _quantized_input(graph: gs.Graph, source: gs.Tensor, input_scaling: Scaling) -> gs.Variable:
    name = source.name
    scale = gs.Constant(f"{name}/scale", np.asarray(input_scaling.scale, np.float32))
    zero = _zero_point(f"{name}/zero_point", input_scaling.kind)
    number = gs.Variable(f"{name}/quantized", dtype=zero.dtype, shape=source.shape)
    back = gs.Variable(f"{name}/dequantized", dtype=np.float32, shape=source.shape)
    graph.nodes.append(gs.Node("QuantizeLinear", f"{name}/QuantizeLinear", {}, [source, scale, zero], [number]))
    graph.nodes.append(gs.Node("DequantizeLinear", f"{name}/DequantizeLinear", {}, [number, scale, zero], [back]))
    return back


def _quantized_weight(graph: gs.Graph, node: gs.Node, kind: str) -> gs.Variable:
    weight = quantize_weight(kind, node.inputs[1].values, half_scales=True)
    name = f"{node.name}/weight"
    values = weight.values
    attributes: dict = {}
    if kind == "int4":
        import ml_dtypes

        values, attributes = values.astype(ml_dtypes.int4), {"axis": 0, "block_size": ROWS_PER_SCALE}
    elif weight.scales.ndim:
        attributes = {"axis": 1}
    inputs = [gs.Constant(f"{name}/quantized", values), gs.Constant(f"{name}/scale", np.asarray(weight.scales))]
    if kind == "int8":
        inputs.append(gs.Constant(f"{name}/zero_point", np.zeros_like(weight.scales, np.int8)))
    back = gs.Variable(f"{name}/dequantized", dtype=np.float32, shape=list(values.shape))
    graph.nodes.append(gs.Node("DequantizeLinear", f"{name}/DequantizeLinear", attributes, inputs, [back]))
    return back


def _zero_point(name: str, kind: str) -> gs.Constant:
    if kind == "fp8":
        import ml_dtypes

        return gs.Constant(name, np.zeros((), ml_dtypes.float8_e4m3fn))
    return gs.Constant(name, np.zeros((), np.int8))
