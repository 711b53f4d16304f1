"""What ONNX Runtime's CPU kernels want.

::

    x ──▶ QuantizeLinear (uint8, with a zero point) ──▶ MatMulIntegerToFloat (x, W int8, one scale a column, bias) ──▶

MLAS multiplies uint8 by int8; signed by signed is slower than FP32. ``MatMulIntegerToFloat`` (com.microsoft) is the
kernel that ONNX Runtime's own optimiser would make of a Q/DQ pair around a MatMul: written directly it needs no fusion
to fire, so no DequantizeLinear can be left over, and the product leaves the kernel as FP32 with its bias added.
Softmax, norms and the attention MatMuls stay FP32. Measured beside other forms in docs/calibration.md.
W's zero point is written down for sessions that make W uint8 (:mod:`laco_export.onnx_session`).

On x86 without VNNI that kernel adds pairs of products in 16 bits, and cuts off what does not fit. The portable form has
weights of seven bits (ONNX Runtime's quantiser calls it ``reduce_range``), whose pairs always fit: 2 · 255 · 63 < 2^15.

Weight-only is ``MatMulNBits``: blocks of 32 rows, unpacked inside the kernel.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from laco_export.exporter.n_bits import quantize_blocks
from laco_export.exporter.rewrites.rewiring import only_reader
from laco_export.number_formats import ROWS_PER_SCALE, quantize_weight, scaling

from .placement import Placement

_DOMAIN = "com.microsoft"


def place_for_cpu(graph: gs.Graph, placement: Placement) -> None:
    """Exchange the chosen Linear layers for ONNX Runtime's integer kernels, in place."""
    if placement.number_format.activations is None:
        for node in placement.linears(graph):
            _to_n_bits(node, 4 if placement.number_format.weights == "int4" else 8)
    else:
        shared: dict[str, tuple[gs.Variable, gs.Constant, gs.Constant]] = {}
        for node in placement.linears(graph):
            source = node.inputs[0]
            if source.name not in shared:
                shared[source.name] = _quantized_input(graph, source, placement.ranges[source.name])
            _to_integer(graph, node, placement.number_format.weights, *shared[source.name])
    _import_domain(graph)
    graph.cleanup().toposort()


def _quantized_input(graph: gs.Graph, source: gs.Tensor, bounds: tuple[float, float]):
    input_scaling, name = scaling("uint8", *bounds), source.name
    scale = gs.Constant(f"{name}/scale", np.asarray(input_scaling.scale, np.float32))
    zero = gs.Constant(f"{name}/zero_point", np.asarray(input_scaling.zero_point, np.uint8))
    number = gs.Variable(f"{name}/quantized", dtype=np.uint8, shape=source.shape)
    graph.nodes.append(gs.Node("QuantizeLinear", f"{name}/QuantizeLinear", {}, [source, scale, zero], [number]))
    return number, scale, zero


def _to_integer(graph: gs.Graph, node: gs.Node, kind: str, number, scale: gs.Constant, zero: gs.Constant) -> None:
    weight = quantize_weight(kind, node.inputs[1].values)
    name = f"{node.name}/weight"
    inputs = [
        number,
        gs.Constant(f"{name}/quantized", weight.values),
        scale,
        gs.Constant(f"{name}/scale", weight.scales),
        zero,
        gs.Constant(f"{name}/zero_point", np.zeros((), np.int8)),
    ]
    bias = _take_bias(graph, node)
    if bias is not None:
        inputs.append(bias)
    node.op, node.domain, node.attrs, node.inputs = "MatMulIntegerToFloat", _DOMAIN, {}, inputs


def _take_bias(graph: gs.Graph, node: gs.Node) -> gs.Constant | None:
    """The bias that an Add puts on ``node``'s product, which then gives out the Add's output; None without one."""
    product = node.outputs[0]
    if not only_reader(graph, product) or product.outputs[0].op != "Add":
        return None
    add = product.outputs[0]
    biases = [tensor for tensor in add.inputs if isinstance(tensor, gs.Constant)]
    if len(biases) != 1 or list(biases[0].shape) != [product.shape[-1]]:
        return None
    output, add.outputs, add.inputs = add.outputs[0], [], []
    node.outputs = [output]
    graph.nodes.remove(add)
    return biases[0]


def _to_n_bits(node: gs.Node, bits: int) -> None:
    """``MatMulNBits`` in blocks of :data:`ROWS_PER_SCALE` rows, packed as the decoder's are."""
    weight = np.asarray(node.inputs[1].values, np.float32)  # [in, out]
    rows, columns = weight.shape
    blocks, scales = quantize_blocks(weight.T, bits, ROWS_PER_SCALE)  # [out, blocks, bytes], [out * blocks]
    name = f"{node.name}/weight"
    # accuracy_level 4: the input is rounded to eight bits block by block inside the kernel, which makes it integer.
    node.attrs = {"K": rows, "N": columns, "bits": bits, "block_size": ROWS_PER_SCALE, "accuracy_level": 4}
    node.op, node.domain = "MatMulNBits", _DOMAIN
    quantized = gs.Constant(f"{name}/quantized", blocks)
    node.inputs = [node.inputs[0], quantized, gs.Constant(f"{name}/scale", scales.reshape(columns, -1))]


def _import_domain(graph: gs.Graph) -> None:
    from onnx.helper import make_opsetid

    others = [opset for opset in graph.import_domains or [] if opset.domain not in ("", "ai.onnx", _DOMAIN)]
    graph.import_domains = [make_opsetid("", graph.opset), *others, make_opsetid(_DOMAIN, 1)]
