"""Nodes that hand on what they were given go, on graphs written by hand."""

import numpy as np
import pytest

from laco_export.exporter.rewrites.remove_identities import remove_identities

X = {"x": (np.float32, [2, 3])}
FEEDS = {"x": np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)}


def operators(graph):
    graph.cleanup().toposort()
    return [node.op for node in graph.nodes]


IDENTITIES = {
    "Identity": ([("Identity", ["s"], ["i"], {})], {}),
    "Cast to the same dtype": ([("Cast", ["s"], ["i"], {"to": 1})], {}),
    "Transpose in order": ([("Transpose", ["s"], ["i"], {"perm": [0, 1]})], {}),
    "Reshape to the same shape": ([("Reshape", ["s", "same"], ["i"], {})], {"same": np.array([2, 3])}),
    "Slice of everything": (
        [("Slice", ["s", "zero", "end", "zero"], ["i"], {})],
        {"zero": np.array([0]), "end": np.array([99])},
    ),
}


@pytest.mark.parametrize("name", IDENTITIES)
@pytest.mark.parametrize("last", [False, True], ids=["inside", "before an output"])
def test_identities_go(make_graph, run_graph, name, last):
    nodes, constants = IDENTITIES[name]
    nodes = [("Sigmoid", ["x"], ["s"], {}), *nodes]
    if last:
        nodes[-1] = (nodes[-1][0], nodes[-1][1], ["y"], nodes[-1][3])
    else:
        nodes.append(("Tanh", ["i"], ["y"], {}))
    graph = make_graph(nodes, X, {"y": (np.float32, [2, 3])}, constants)
    expected = run_graph(graph, FEEDS)["y"]
    assert remove_identities(graph, None).fired == 1
    assert operators(graph) == (["Sigmoid"] if last else ["Sigmoid", "Tanh"])
    np.testing.assert_array_equal(run_graph(graph, FEEDS)["y"], expected)


@pytest.mark.parametrize(
    ("op", "attributes", "constants"),
    [
        ("Transpose", {"perm": [1, 0]}, {}),
        ("Slice", {}, {"start": np.array([-1]), "end": np.array([-99]), "axis": np.array([0]), "step": np.array([-1])}),
    ],
    ids=["Transpose", "reversing Slice"],
)
def test_what_changes_the_order_stays(make_graph, op, attributes, constants):
    shape = {"x": (np.float32, [3, 3])}
    graph = make_graph([(op, ["x", *constants], ["y"], attributes)], shape, {"y": (np.float32, [3, 3])}, constants)
    assert remove_identities(graph, None).fired == 0
    assert operators(graph) == [op]


def test_an_identity_from_input_to_output_stays(make_graph):
    graph = make_graph([("Identity", ["x"], ["y"], {})], X, {"y": (np.float32, [2, 3])})
    outcome = remove_identities(graph, None)
    assert outcome.fired == 0
    assert "keep their names" in outcome.refused[0]


def test_a_reshape_of_a_reshape_reads_the_first_source(make_graph, run_graph):
    graph = make_graph(
        [("Reshape", ["x", "a"], ["r"], {}), ("Reshape", ["r", "b"], ["y"], {})],
        X,
        {"y": (np.float32, [3, 2])},
        {"a": np.array([6]), "b": np.array([3, 2])},
    )
    expected = run_graph(graph, FEEDS)["y"]
    assert remove_identities(graph, None).fired == 1
    assert operators(graph) == ["Reshape"]
    np.testing.assert_array_equal(run_graph(graph, FEEDS)["y"], expected)
