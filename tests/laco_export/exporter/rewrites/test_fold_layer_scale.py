import numpy as np
import onnx_graphsurgeon as gs
import pytest

from laco_export.exporter.rewrites.fold_layer_scale import fold_layer_scale

BLOCK = "vision_model.encoder.encoder.layer.0"


@pytest.fixture
def internvit(trace):
    """Two blocks with two LayerScales each."""
    return trace("internvit")


def scales(graph):
    """The Muls by a constant vector that follow a Linear layer."""
    return [
        node
        for node in graph.nodes
        if node.op == "Mul" and any(isinstance(t, gs.Constant) and t.values.shape == (32,) for t in node.inputs)
    ]


def test_the_scales_go_into_the_linear_layers(internvit, differences):
    assert len(scales(internvit.graph)) == 4
    nodes = len(internvit.graph.nodes)
    outcome = fold_layer_scale(internvit.graph, internvit.merges)
    internvit.graph.cleanup().toposort()
    assert (outcome.fired, outcome.refused) == (4, ())
    assert len(internvit.graph.nodes) == nodes - 4
    assert scales(internvit.graph) == []
    assert differences(internvit) == []


def test_a_scale_that_misses_the_bias_is_seen(internvit, differences):
    fold_layer_scale(internvit.graph, internvit.merges)
    internvit.graph.cleanup().toposort()
    scaled = [t for t in internvit.graph.tensors().values() if t.name.endswith(":bias_layer_scaled")]
    assert len(scaled) == 4
    bias = next(tensor for tensor in scaled if ".layer.0." in tensor.name)
    bias.values = bias.values * 10  # as if transformers' LayerScale of about 0.1 had not reached it
    assert BLOCK in differences(internvit)


def test_refuses_a_scale_that_would_push_the_weights_below_half(internvit):
    for node in scales(internvit.graph):
        for tensor in node.inputs:
            if isinstance(tensor, gs.Constant):
                tensor.values = np.full(32, 1e-6, np.float32)
    outcome = fold_layer_scale(internvit.graph, internvit.merges)
    assert outcome.fired == 0
    assert len(outcome.refused) == 4
    assert "subnormal" in outcome.refused[0]


def test_leaves_a_product_that_is_read_twice(make_graph):
    graph = make_graph(
        [("MatMul", ["x", "w"], ["p"], {}), ("Mul", ["p", "s"], ["y"], {}), ("Tanh", ["p"], ["z"], {})],
        {"x": (np.float32, [2, 4])},
        {"y": (np.float32, [2, 4]), "z": (np.float32, [2, 4])},
        {"w": np.ones((4, 4), np.float32), "s": np.full(4, 2, np.float32)},
    )
    assert fold_layer_scale(graph, None).fired == 0
