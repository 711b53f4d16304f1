from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from laco_export.agreement import agreement
from laco_export.exporter.boundaries import STRICTNESS
from laco_export.exporter.half_conversion import convert_to_half
from laco_export.exporter.interpreter import GraphInterpreter
from laco_export.exporter.precision import choose_fp32
from laco_export.exporter.ranges import TensorRange, measure_ranges
from laco_export.exporter.rewrites import apply_rewrites

F32, F16 = np.dtype(np.float32), np.dtype(np.float16)


def measured(*values):
    measured = TensorRange()
    measured.add(torch.tensor(values), torch.float16)
    return measured


@pytest.fixture(scope="session")
def converted(trace):
    """A tiny AIMv2 graph in FP16, its islands, and its features in half arithmetic."""
    traced = trace()
    apply_rewrites(traced.graph, traced.merges)
    kept_fp32 = choose_fp32(traced.graph, measure_ranges(traced.graph, [traced.pixels]))
    convert_to_half(traced.graph, kept_fp32)
    return SimpleNamespace(**{**vars(traced), "kept_fp32": kept_fp32})


def half_agreement(traced, names=("image_features",)):
    outputs = GraphInterpreter(traced.graph).run({"pixel_values": traced.pixels}, names)
    return [agreement(name, traced.expected[name], outputs[name]) for name in names]


def test_ranges_tell_overflow_and_subnormals_from_ordinary_rounding():
    assert measured(1.0, 3.14159, -1000.7).rounding == pytest.approx(2**-11)
    assert measured(6e-5, 1e-4).rounding < 2**-10
    assert measured(1.0, 70000.0).rounding == np.inf
    assert measured(1e-7, 2.3e-7).rounding > 0.05
    assert measured(0.0, 0.0).rounding == 0
    assert measured(1.0, -70000.0).max_abs == 70000.0


def test_a_moved_tensor_has_the_range_of_its_source(trace):
    traced = trace()
    ranges = measure_ranges(traced.graph, [traced.pixels, 3 * traced.pixels])
    for node in traced.graph.nodes:
        if node.op == "Transpose":
            assert ranges[node.outputs[0].name] is ranges[node.inputs[0].name]
    assert ranges["pixel_values"].max_abs == pytest.approx(3 * np.abs(traced.pixels).max())


def test_norm_statistics_stay_fp32_by_rule(converted):
    norms = Counter(
        name.rpartition("/")[0] for name, reason in converted.kept_fp32.items() if "norm statistics" in reason
    )
    assert len(norms) == 6
    assert set(norms.values()) == {6}  # Pow, ReduceMean, Add, Sqrt, Reciprocal, Mul
    fused = [name for name, reason in converted.kept_fp32.items() if "fused norm" in reason]
    assert fused == ["vision_model.compressors.block_1.mlp.norm/LayerNormalization"]
    assert len(converted.kept_fp32) == 37  # and nothing else in a tame model


def test_the_residual_average_is_no_norm(converted):
    assert not any("residual" in name for name in converted.kept_fp32)


def test_every_node_reads_one_dtype_and_the_interface_stays_float32(converted):
    graph = converted.graph
    assert graph.inputs[0].dtype == graph.outputs[0].dtype == F32
    assert graph.outputs[0].name == "image_features"
    for node in graph.nodes:
        floats = {np.dtype(t.dtype) for t in [*node.inputs, *node.outputs] if np.dtype(t.dtype).kind == "f"}
        if node.op != "Cast":
            assert floats == {F32 if node.name in converted.kept_fp32 else F16}, node.name


def test_casts_are_shared_and_make_no_detour(converted):
    casts = [node for node in converted.graph.nodes if node.op == "Cast"]
    assert len({(c.inputs[0].name, c.attrs["to"]) for c in casts}) == len(casts)
    for cast in casts:
        source = cast.inputs[0].inputs
        assert not source or source[0].op != "Cast", f"{cast.name} casts a cast"


def test_fp16_in_half_arithmetic_is_close(converted):
    names = [output.name for output in converted.graph.outputs]
    assert [a.name for a in half_agreement(converted, names) if not a.within(STRICTNESS["fp16"].tensor)] == []


def outliers(trace, factor):
    """A model whose first block adds values ``factor`` times their usual size to the residual stream."""
    traced = trace()
    name = "vision_model.encoder.encoder.layers.0.ffn.down_proj.weight.transposed"
    down = next(node for node in traced.graph.nodes if any(t.name == name for t in node.inputs))
    import onnx_graphsurgeon as gs

    weights = traced.graph.tensors()[name].values * np.float32(factor)
    assert np.abs(weights).max() < 65504  # the weights fit into half, what they make does not
    down.inputs[1] = gs.Constant(f"{name}.large", weights)
    names = [output.name for output in traced.graph.outputs]
    traced.expected = GraphInterpreter(traced.graph).run({"pixel_values": traced.pixels}, names)
    apply_rewrites(traced.graph, traced.merges)
    return traced


def test_outliers_beyond_half_become_islands_where_a_naive_cast_fails(trace):
    naive, careful = outliers(trace, 2e5), outliers(trace, 2e5)
    boundary = "vision_model.encoder.encoder.layers.0"
    assert np.abs(naive.expected[boundary]).max() > 65504
    convert_to_half(naive.graph, choose_fp32(naive.graph, {}))  # the rules alone
    stream = GraphInterpreter(naive.graph).run({"pixel_values": naive.pixels}, [boundary])[boundary]
    assert stream.dtype == F16
    assert np.isinf(stream).any()  # the overflow, in the exported graph's own arithmetic
    assert not half_agreement(naive)[0].within(STRICTNESS["fp16"].tensor)

    kept_fp32 = choose_fp32(careful.graph, measure_ranges(careful.graph, [careful.pixels]))
    convert_to_half(careful.graph, kept_fp32)
    assert "above 1.638e+04" in kept_fp32["vision_model.encoder.encoder.layers.0.ffn.down_proj/MatMul"]
    assert "vision_model.encoder.encoder.layers.0/Add_2" in kept_fp32
    names = [output.name for output in careful.graph.outputs]
    assert [a.name for a in half_agreement(careful, names) if not a.within(STRICTNESS["fp16"].tensor)] == []


def test_values_that_fall_to_subnormals_become_islands(make_graph):
    nodes = [("Mul", ["x", "tiny"], ["small"], {}), ("Mul", ["small", "huge"], ["y"], {})]
    constants = {"tiny": np.full(1, 3e-8, F32), "huge": np.full(1, 3e7, F32)}
    graph = make_graph(nodes, {"x": (F32, [4])}, {"y": (F32, [4])}, constants)
    ranges = {name: measured(*values) for name, values in {"small": [3.1e-8, 5.2e-8], "tiny": [3e-8]}.items()}
    kept_fp32 = choose_fp32(graph, ranges)
    assert "subnormals" in kept_fp32["Mul_0"]
    assert "subnormals" in kept_fp32["Mul_1"]


def test_a_small_bias_is_no_reason(make_graph):
    graph = make_graph(
        [("Add", ["x", "bias"], ["y"], {})], {"x": (F32, [2])}, {"y": (F32, [2])}, {"bias": np.full(2, 1e-8, F32)}
    )
    assert choose_fp32(graph, {"bias": measured(1e-8, 1e-8), "y": measured(1.0, 2.0)}) == {}


def test_large_scores_keep_their_softmax_in_fp32(make_graph):
    nodes = [("MatMul", ["x", "k"], ["scores"], {}), ("Softmax", ["scores"], ["y"], {"axis": -1})]
    graph = make_graph(nodes, {"x": (F32, [2, 2])}, {"y": (F32, [2, 2])}, {"k": np.eye(2, dtype=F32)})
    assert set(choose_fp32(graph, {"scores": measured(150.0, 0.0)})) == {"MatMul_0", "Softmax_1"}
    assert choose_fp32(graph, {"scores": measured(90.0, 0.0)}) == {}


def test_moving_nodes_follow_and_concat_takes_the_wider(make_graph):
    nodes = [
        ("Sqrt", ["x"], ["wide"], {}),
        ("Transpose", ["wide"], ["turned"], {"perm": [1, 0]}),
        ("Sigmoid", ["x"], ["narrow"], {}),
        ("Concat", ["turned", "narrow"], ["y"], {"axis": 0}),
    ]
    graph = make_graph(nodes, {"x": (F32, [2, 2])}, {"y": (F32, [4, 2])})
    convert_to_half(graph, {"Sqrt_0"})
    dtypes = {name: np.dtype(tensor.dtype) for name, tensor in graph.tensors().items()}
    assert (dtypes["turned"], dtypes["narrow"], dtypes["y"]) == (F32, F16, F32)
    assert sum(node.op == "Cast" for node in graph.nodes) == 2  # x to half, narrow to FP32
