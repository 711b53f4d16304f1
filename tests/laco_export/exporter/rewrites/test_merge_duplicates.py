"""Nodes that compute the same are one."""

import numpy as np
import pytest

from laco_export.exporter.rewrites.merge_duplicates import merge_duplicates

X = {"x": (np.float32, [2, 3])}
FEEDS = {"x": np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)}


def operators(graph):
    graph.cleanup().toposort()
    return [node.op for node in graph.nodes]


def duplicates(make_graph, second):
    return make_graph(
        [
            ("Mul", ["x", "two"], ["a"], {}),
            second,
            ("Tanh", ["a"], ["t"], {}),
            ("Add", ["t", "b"], ["y"], {}),
        ],
        X,
        {"y": (np.float32, [2, 3])},
        {"two": np.float32(2).reshape(()), "also_two": np.float32(2).reshape(()), "three": np.float32(3).reshape(())},
    )


def test_equal_nodes_are_one(make_graph, run_graph):
    graph = duplicates(make_graph, ("Mul", ["x", "also_two"], ["b"], {}))
    expected = run_graph(graph, FEEDS)["y"]
    assert merge_duplicates(graph, None).fired == 1
    assert operators(graph) == ["Mul", "Tanh", "Add"]
    np.testing.assert_array_equal(run_graph(graph, FEEDS)["y"], expected)


@pytest.mark.parametrize("second", [("Mul", ["x", "three"], ["b"], {}), ("Add", ["x", "two"], ["b"], {})])
def test_other_constants_or_operators_are_not(make_graph, second):
    assert merge_duplicates(duplicates(make_graph, second), None).fired == 0
