from importlib import import_module

import numpy as np
import pytest

from laco_export.exporter.rewrites.scale_queries import scale_queries


def between_scores_and_softmax(graph):
    return [n.inputs[0].inputs[0].op for n in graph.nodes if n.op == "Softmax"]


@pytest.mark.parametrize("kind", ["aimv2", "siglip", "internvit"])
def test_the_scores_go_straight_to_the_softmax(trace, differences, kind):
    traced = trace(kind)
    assert between_scores_and_softmax(traced.graph) == ["Mul", "Mul"]
    nodes = len(traced.graph.nodes)
    outcome = scale_queries(traced.graph, traced.merges)
    traced.graph.cleanup().toposort()
    assert (outcome.fired, outcome.refused) == (2, ())
    assert between_scores_and_softmax(traced.graph) == ["MatMul", "MatMul"]
    assert len(traced.graph.nodes) == nodes - 2  # inside the projections, not beside them
    assert differences(traced) == []


def test_the_two_roots_of_a_scale_become_one_in_the_query_projection(trace, differences):
    traced = trace(method="token_packer")
    inside = lambda: [n.op for n in traced.graph.nodes if "compressors" in n.name and n.op in ("Mul", "Div")]
    assert inside() == ["Mul", "Mul"]
    outcome = scale_queries(traced.graph, traced.merges)
    traced.graph.cleanup().toposort()
    assert (outcome.fired, outcome.refused) == (3, ())
    assert inside() == []
    assert differences(traced) == []


def test_a_scale_of_the_keys_that_something_else_reads_stays_there(make_graph, run_graph):
    values = np.random.default_rng(0)
    nodes = [
        ("Mul", ["keys", "root"], ["k"], {}),
        ("MatMul", ["x", "k"], ["scores"], {}),
        ("Softmax", ["scores"], ["y"], {"axis": -1}),
        ("Sigmoid", ["k"], ["other"], {}),
    ]
    constants = {"keys": values.standard_normal((1, 8, 4)).astype(np.float32), "root": np.float32(0.6).reshape(())}
    outputs = {"y": (np.float32, [1, 4, 4]), "other": (np.float32, [1, 8, 4])}
    graph = make_graph(nodes, {"x": (np.float32, [1, 4, 8])}, outputs, constants)
    feeds = {"x": values.standard_normal((1, 4, 8)).astype(np.float32)}
    expected = run_graph(graph, feeds)
    assert scale_queries(graph, None).fired == 1
    graph.cleanup().toposort()
    for name, value in run_graph(graph, feeds).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5)
    assert [node.op for node in graph.nodes].count("Mul") == 2


def test_a_lost_scale_is_seen(trace, differences, monkeypatch):
    module = import_module("laco_export.exporter.rewrites.scale_queries")
    monkeypatch.setattr(module, "_scale_projection", lambda graph, queries, scale: True)
    traced = trace()
    scale_queries(traced.graph, traced.merges)
    traced.graph.cleanup().toposort()
    assert "vision_model.encoder.encoder.layers.0" in differences(traced)


def attention(make_graph, queries_from):
    """Scores, scale and softmax over ``[1, 4, 8]`` queries that come through the given nodes from ``x``."""
    nodes = [
        *queries_from,
        ("MatMul", ["q", "keys"], ["scores"], {}),
        ("Mul", ["factor", "scores"], ["scaled"], {}),
        ("Softmax", ["scaled"], ["y"], {"axis": -1}),
    ]
    values = np.random.default_rng(0)
    constants = {
        "keys": values.standard_normal((1, 8, 4)).astype(np.float32),
        "factor": np.float32(0.35).reshape(()),
        "w": values.standard_normal((8, 8)).astype(np.float32),
    }
    used = {name for _, inputs, _, _ in nodes for name in inputs}
    shape = (np.float32, [1, 4, 8])
    constants = {name: value for name, value in constants.items() if name in used}
    return make_graph(nodes, {"x": shape}, {"y": (np.float32, [1, 4, 4])}, constants)


@pytest.mark.parametrize(
    "queries_from",
    [
        [("Sigmoid", ["x"], ["q"], {})],
        [("MatMul", ["x", "w"], ["p"], {}), ("Sigmoid", ["p"], ["q"], {})],
    ],
    ids=["no Linear", "something between"],
)
def test_a_node_on_the_queries_where_no_linear_layer_can_take_it(make_graph, run_graph, queries_from):
    graph = attention(make_graph, queries_from)
    feeds = {"x": np.random.default_rng(1).standard_normal((1, 4, 8)).astype(np.float32)}
    expected = run_graph(graph, feeds)["y"]
    assert scale_queries(graph, None).fired == 1
    graph.cleanup().toposort()
    assert [node.op for node in graph.nodes][-3:] == ["Mul", "MatMul", "Softmax"]
    np.testing.assert_allclose(run_graph(graph, feeds)["y"], expected, rtol=1e-5)


def test_refuses_scores_that_are_read_elsewhere(make_graph):
    graph = attention(make_graph, [("Sigmoid", ["x"], ["q"], {})])
    scores = next(node for node in graph.nodes if node.op == "MatMul").outputs[0]
    graph.outputs.append(scores)
    outcome = scale_queries(graph, None)
    assert outcome.fired == 0
    assert "read elsewhere" in outcome.refused[0]
