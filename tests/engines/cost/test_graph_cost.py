import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from laco_engines.cost.graph_cost import graph_cost


def save(tmp_path, nodes, inputs, outputs, constants, stated=(), opset=21):
    info = lambda items: [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in items]
    graph = helper.make_graph(
        nodes,
        "g",
        info(inputs),
        info(outputs),
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
        value_info=info(stated),
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    path = tmp_path / "g.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets), path)
    return path


def test_a_bundle_costs_what_layer_arithmetic_says(bundle):
    """Counted on the graph and, by laco_export.models.flops, on the configuration: the same number."""
    costs = {graph.batch: graph_cost(bundle.file(graph.file)) for graph in bundle.manifest.vision.graphs}
    assert set(costs[1].flops) == {"fp32"}
    assert costs[1].total_flops == pytest.approx(bundle.manifest.vision.flops["total"], rel=1e-9)
    assert costs[2].total_flops == 2 * costs[1].total_flops
    assert costs[2].weight_bytes == pytest.approx(costs[1].weight_bytes, rel=0.01)  # a few shapes differ
    assert costs[1].input_bytes == 4 * 3 * 56 * 56
    assert costs[1].least_traffic == costs[1].weight_bytes + costs[1].input_bytes + costs[1].output_bytes
    assert costs[2].activation_bytes > costs[1].activation_bytes > costs[1].input_bytes


@pytest.mark.parametrize(("kind", "stored", "counted"), [("INT8", np.int8, "int8"), ("FLOAT8E4M3FN", None, "fp8")])
def test_dequantised_factors_count_as_what_they_are_stored_in(tmp_path, kind, stored, counted):
    number = getattr(TensorProto, kind)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale"], ["q"], output_dtype=number),
        helper.make_node("DequantizeLinear", ["q", "scale"], ["a"]),
        helper.make_node("QuantizeLinear", ["w", "scale"], ["qw"], output_dtype=number),
        helper.make_node("DequantizeLinear", ["qw", "scale"], ["b"]),
        helper.make_node("MatMul", ["a", "b"], ["y"]),
    ]
    constants = {"scale": np.float32(1), "w": np.ones((8, 5), np.float32)}
    float_ = TensorProto.FLOAT
    path = save(tmp_path, nodes, [("x", float_, [1, 4, 8])], [("y", float_, [1, 4, 5])], constants)
    assert graph_cost(path).flops == {counted: 2 * 4 * 5 * 8}


def test_weights_alone_in_eight_bits_multiply_in_the_other_factors_type(tmp_path):
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "scale"], ["b"]),
        helper.make_node("MatMul", ["x", "b"], ["y"]),
    ]
    constants = {"scale": np.float16(1), "w": np.ones((8, 5), np.int8)}
    half = TensorProto.FLOAT16
    path = save(tmp_path, nodes, [("x", half, [4, 8])], [("y", half, [4, 5])], constants)
    cost = graph_cost(path)
    assert cost.flops == {"fp16": 2 * 4 * 5 * 8}
    assert cost.weight_bytes == 8 * 5 + 2


@pytest.mark.parametrize("operator", ["MatMulIntegerToFloat", "MatMulNBits"])
def test_onnx_runtimes_own_integer_products(tmp_path, operator):
    """Their shapes are not inferred: the file states them, as GraphSurgeon writes it."""
    node = helper.make_node(operator, ["x", "w"], ["h"], domain="com.microsoft")
    nodes = [node, helper.make_node("Relu", ["h"], ["y"])]
    kind = TensorProto.UINT8 if operator == "MatMulIntegerToFloat" else TensorProto.FLOAT
    float_ = TensorProto.FLOAT
    path = save(
        tmp_path, nodes, [("x", kind, [1, 4, 8])], [("y", float_, [1, 4, 5])], {"w": np.ones((8, 5), np.uint8)},
        stated=[("h", float_, [1, 4, 5])],
    )  # fmt: skip
    assert graph_cost(path).flops == {"int8": 2 * 4 * 5 * 8}


def test_convolution_gemm_and_attention(tmp_path):
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Reshape", ["c", "shape"], ["r"]),
        helper.make_node("Attention", ["r", "r", "r"], ["a"], q_num_heads=2, kv_num_heads=2),
        helper.make_node("Reshape", ["a", "flat"], ["f"]),
        helper.make_node("Gemm", ["f", "w"], ["y"], transB=1),
    ]
    constants = {
        "k": np.ones((8, 3, 2, 2), np.float32), "shape": np.array([1, 4, 8]), "flat": np.array([4, 8]),
        "w": np.ones((5, 8), np.float32),
    }  # fmt: skip
    float_ = TensorProto.FLOAT
    path = save(tmp_path, nodes, [("x", float_, [1, 3, 4, 4])], [("y", float_, [4, 5])], constants, opset=23)
    assert graph_cost(path).flops == {"fp32": 2 * 4 * 8 * 12 + 4 * 4 * 4 * 8 + 2 * 4 * 5 * 8}
