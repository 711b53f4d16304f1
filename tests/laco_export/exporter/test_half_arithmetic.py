import numpy as np
import pytest

from laco_export.errors import ExportError
from laco_export.exporter.interpreter import GraphInterpreter

F32, F16 = np.float32, np.float16


def test_an_overflow_becomes_inf(make_graph):
    # 300² = 90000 lies beyond half's 65504. In FP32, as ONNX Runtime's CPU provider may run it, the result is 90.
    nodes = [("Mul", ["x", "x"], ["square"], {}), ("Mul", ["square", "small"], ["y"], {})]
    for dtype, expected in ((F16, np.inf), (F32, 90.0)):
        graph = make_graph(nodes, {"x": (dtype, [1])}, {"y": (dtype, [1])}, {"small": np.full(1, 1e-3, dtype)})
        result = GraphInterpreter(graph).run({"x": np.full(1, 300, dtype)}, ["y"])["y"]
        assert result.dtype == dtype
        assert result[0] == pytest.approx(expected, rel=1e-3)


def test_a_small_value_collapses_to_zero(make_graph):
    nodes = [("Mul", ["x", "x"], ["square"], {}), ("Sqrt", ["square"], ["y"], {})]
    graph = make_graph(nodes, {"x": (F16, [1])}, {"y": (F16, [1])})
    assert GraphInterpreter(graph).run({"x": np.full(1, 1e-4, F16)}, ["y"])["y"][0] == 0


def test_rounds_to_half_after_every_node(make_graph):
    nodes = [("Add", ["x", "one"], ["a"], {}), ("Sub", ["a", "x"], ["y"], {})]
    graph = make_graph(nodes, {"x": (F16, [1])}, {"y": (F16, [1])}, {"one": np.ones(1, F16)})
    assert GraphInterpreter(graph).run({"x": np.full(1, 4096, F16)}, ["y"])["y"][0] == 0  # 4097 is no half


def test_refuses_mixed_dtypes(make_graph):
    import onnx_graphsurgeon as gs

    graph = make_graph([("Add", ["x", "c"], ["y"], {})], {"x": (F16, [2])}, {"y": (F16, [2])}, {"c": np.ones(2, F16)})
    graph.nodes[0].inputs[1] = gs.Constant("wide", np.ones(2, F32))
    with pytest.raises(ExportError, match="not strongly typed: Add_0 mixes"):
        GraphInterpreter(graph).run({"x": np.ones(2, F16)}, ["y"])


def test_names_an_operator_without_a_kernel(make_graph):
    graph = make_graph([("Selu", ["x"], ["y"], {})], {"x": (F32, [2])}, {"y": (F32, [2])})
    with pytest.raises(ExportError, match="cannot be judged") as error:
        GraphInterpreter(graph)
    assert error.value.given == "Selu"


I = lambda *values: np.array(values, np.int64)  # noqa: E741
IMAGE = {"x": (F32, [1, 4, 6, 6])}
CASES = {
    "Conv": ([("Conv", ["x", "w", "b"], ["y"], {"strides": [2, 2], "pads": [1, 1, 1, 1]})], [1, 3, 3, 3]),
    "LayerNormalization": ([("LayerNormalization", ["x", "s", "s"], ["y"], {"epsilon": 1e-3})], [1, 4, 6, 6]),
    "ReduceMean": ([("ReduceMean", ["x", "axes"], ["y"], {"keepdims": 0})], [1, 6]),
    "Pad edge": ([("Pad", ["x", "pads"], ["y"], {"mode": "edge"})], [1, 4, 8, 7]),
    "Pad constant": ([("Pad", ["x", "pads", "half"], ["y"], {})], [1, 4, 8, 7]),
    "Slice": ([("Slice", ["x", "one", "many", "last"], ["y"], {})], [1, 4, 6, 5]),
    "Gather": ([("Gather", ["x", "pick"], ["y"], {"axis": 1})], [1, 2, 6, 6]),
    "Concat": ([("Concat", ["x", "x"], ["y"], {"axis": -1})], [1, 4, 6, 12]),
    "Split": ([("Split", ["x"], ["y", "z"], {"axis": 1, "num_outputs": 2})], [1, 2, 6, 6]),
    "Unsqueeze": ([("Unsqueeze", ["x", "ends"], ["y"], {})], [1, 1, 4, 6, 6, 1]),
    "Reshape with 0 and -1": ([("Reshape", ["x", "keep"], ["y"], {})], [1, 144]),
    "Gelu": ([("Gelu", ["x"], ["y"], {"approximate": "tanh"})], [1, 4, 6, 6]),
    "exact Gelu": ([("Gelu", ["x"], ["y"], {})], [1, 4, 6, 6]),
    "Softmax": ([("Softmax", ["x"], ["y"], {"axis": 1})], [1, 4, 6, 6]),
    "Pow": ([("Pow", ["x", "two"], ["y"], {})], [1, 4, 6, 6]),
    "Erf": ([("Erf", ["x"], ["y"], {})], [1, 4, 6, 6]),
    "Expand": ([("Expand", ["x", "three"], ["y"], {})], [3, 4, 6, 6]),
}


@pytest.mark.parametrize("name", CASES)
def test_kernels_compute_what_onnxruntime_computes(make_graph, run_graph, name):
    values = np.random.default_rng(0)
    nodes, shape = CASES[name]
    constants = {
        "w": values.standard_normal((3, 4, 3, 3)).astype(F32),
        "b": values.standard_normal(3).astype(F32),
        "s": values.standard_normal(6).astype(F32),
        "axes": I(1, 2),
        "pads": I(0, 0, 1, 0, 0, 0, 1, 1),
        "half": F32(0.5).reshape(()),
        "one": I(1),
        "many": I(99),
        "last": I(-1),
        "pick": I(-1, 0),
        "ends": I(0, -1),
        "keep": I(0, -1),
        "two": F32(2).reshape(()),
        "three": I(3, 1, 1, 1),
    }
    used = {tensor for _, inputs, _, _ in nodes for tensor in inputs}
    graph = make_graph(nodes, IMAGE, {"y": (F32, shape)}, {k: v for k, v in constants.items() if k in used})
    feeds = {"x": values.standard_normal((1, 4, 6, 6)).astype(F32)}
    result = GraphInterpreter(graph).run(feeds, ["y"])["y"]
    assert list(result.shape) == shape
    np.testing.assert_allclose(result, run_graph(graph, feeds)["y"], rtol=1e-4, atol=1e-5)
