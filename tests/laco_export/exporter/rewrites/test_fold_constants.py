"""What depends on static shapes alone is computed when the graph is made."""

import numpy as np

from laco_export.exporter.rewrites.fold_constants import fold_constants

X = {"x": (np.float32, [2, 3])}
FEEDS = {"x": np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32)}


def operators(graph):
    graph.cleanup().toposort()
    return [node.op for node in graph.nodes]


def test_shapes_of_static_tensors_are_folded(make_graph, run_graph):
    graph = make_graph(
        [
            ("Shape", ["x"], ["shape"], {}),
            ("Gather", ["shape", "one"], ["columns"], {"axis": 0}),
            ("Concat", ["minus_one", "columns"], ["target"], {"axis": 0}),
            ("Sigmoid", ["x"], ["s"], {}),
            ("Reshape", ["s", "target"], ["y"], {}),
        ],
        X,
        {"y": (np.float32, [2, 3])},
        {"one": np.array([1]), "minus_one": np.array([-1])},
    )
    expected = run_graph(graph, FEEDS)["y"]
    assert fold_constants(graph, None).fired == 3
    assert operators(graph) == ["Sigmoid", "Reshape"]
    np.testing.assert_array_equal(run_graph(graph, FEEDS)["y"], expected)
