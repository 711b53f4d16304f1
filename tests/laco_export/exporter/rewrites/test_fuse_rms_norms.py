from collections import Counter
from importlib import import_module

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from laco_export.exporter.half_conversion import convert_to_half
from laco_export.exporter.half_formats import HALF_FORMATS
from laco_export.exporter.precision import choose_fp32
from laco_export.exporter.ranges import measure_ranges
from laco_export.exporter.rewrites import apply_rewrites
from laco_export.exporter.rewrites.fuse_rms_norms import fuse_rms_norms


@pytest.fixture
def aimv2(trace):
    traced = trace("aimv2")
    apply_rewrites(traced.graph, traced.merges)
    traced.graph.opset = 23
    return traced


def operators(graph):
    return Counter(node.op for node in graph.cleanup().toposort().nodes)


def test_every_norm_is_one_node(aimv2, differences):
    before = operators(aimv2.graph)
    outcome = fuse_rms_norms(aimv2.graph, aimv2.merges)
    after = operators(aimv2.graph)
    # Two a block, one after the embeddings, one at the end.
    assert (outcome.fired, outcome.refused) == (6, ())
    assert after["RMSNormalization"] == before["Sqrt"] == 6
    assert not {"Sqrt", "Reciprocal", "Pow"} & set(after)
    assert differences(aimv2) == []


def test_a_lost_epsilon_or_weight_is_seen(aimv2, differences):
    fuse_rms_norms(aimv2.graph, aimv2.merges)
    aimv2.graph.cleanup().toposort()
    norm = next(n for n in aimv2.graph.nodes if n.op == "RMSNormalization" and "layers.0" in n.name)
    norm.inputs[1] = gs.Constant("planted", np.ones(32, np.float32))
    assert "vision_model.encoder.encoder.layers.0" in differences(aimv2)


def test_in_half_precision_the_statistics_stay_fp32(aimv2):
    form = HALF_FORMATS["fp16"]
    ranges = measure_ranges(aimv2.graph, [aimv2.pixels])
    convert_to_half(aimv2.graph, choose_fp32(aimv2.graph, ranges, form), form)
    assert fuse_rms_norms(aimv2.graph, aimv2.merges).fired == 6
    aimv2.graph.cleanup().toposort()
    for norm in (node for node in aimv2.graph.nodes if node.op == "RMSNormalization"):
        assert norm.inputs[0].dtype == norm.inputs[1].dtype == np.float32
        (cast,) = norm.outputs[0].outputs
        assert (cast.op, cast.outputs[0].dtype) == ("Cast", np.float16)


def test_other_encoders_have_none(trace):
    traced = trace("siglip")
    apply_rewrites(traced.graph, traced.merges)
    assert fuse_rms_norms(traced.graph, traced.merges).fired == 0


def test_refuses_a_root_of_something_else(make_graph):
    graph = make_graph([("Sqrt", ["x"], ["y"], {})], {"x": (np.float32, [2])}, {"y": (np.float32, [2])})
    outcome = fuse_rms_norms(graph, None)
    assert outcome.fired == 0
    assert "no mean of squares" in outcome.refused[0]


def test_refuses_a_norm_whose_root_is_read_elsewhere(aimv2):
    pattern = import_module("laco_export.exporter.rewrites.norm_pattern")
    root = next(node for node in aimv2.graph.nodes if node.op == "Sqrt")
    aimv2.graph.outputs.append(root.outputs[0])
    assert pattern.find_rms_norm(aimv2.graph, root) == "its root is not what x alone is multiplied by"
