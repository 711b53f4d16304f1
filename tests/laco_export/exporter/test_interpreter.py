"""A graph runs in the dtypes that it states, node by node."""

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
