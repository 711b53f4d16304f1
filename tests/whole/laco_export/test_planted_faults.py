"""Faults planted into a rewrite or into the graph: the proof must fail, and bisect must name the module."""

from functools import wraps
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from laco_export.errors import ExportError
from laco_export.exporter.bisection import Bisection
from laco_export.exporter.proof import REWRITTEN, Reference, prove_rewrites
from laco_export.exporter.rewrites import apply_forms, apply_rewrites

BLOCK = "vision_model.encoder.encoder.layers.{}".format
MERGE = "vision_model.compressors.block_2"


@pytest.fixture(scope="module")
def tower(trace):
    """Four blocks with the merge in the middle, and what PyTorch makes of a picture."""
    traced = trace(blocks=4)
    reference = Reference.of(traced.tower, [traced.pixels])
    return SimpleNamespace(fresh=lambda: trace(blocks=4), reference=reference)


def node_named(graph, name):
    return next(node for node in graph.nodes if node.name == name)


def fault(function):
    """A fault that is planted into the rewritten graph."""

    @wraps(function)
    def plant(monkeypatch, traced):
        apply_rewrites(traced.graph, traced.merges)
        function(traced.graph)

    return plant


def wrong_permutation(monkeypatch, traced):
    module = import_module("laco_export.exporter.rewrites.merge_windows")
    monkeypatch.setattr(module, "channel_of_position", lambda channels, ratio: np.arange(channels * ratio**2))
    apply_rewrites(traced.graph, traced.merges)


def scale_lost(monkeypatch, traced):
    """``scale_queries`` takes the scale from the scores and forgets to put it on the queries of block 3."""
    module = import_module("laco_export.exporter.rewrites.scale_queries")
    scaled = module._scale_projection

    def forget(graph, queries, scale):
        node = queries.inputs[0]
        return scaled(graph, queries, 1.0 if ".layers.3." in node.name else scale)

    monkeypatch.setattr(module, "_scale_projection", forget)
    apply_rewrites(traced.graph, traced.merges)


@fault
def residual_of_one_token(graph):
    """The residual takes a window's first row in place of its mean."""
    mean = next(node for node in graph.nodes if node.op == "ReduceMean" and ".residual" in node.name)
    axis = mean.inputs[1].values.tolist()[0]
    index = gs.Constant("planted:index", np.zeros(1, np.int64))
    row = gs.Variable("planted", np.float32)
    graph.nodes.append(gs.Node("Gather", "planted", {"axis": axis}, [mean.inputs[0], index], [row]))
    mean.inputs[0] = row
    graph.toposort()


@fault
def residual_dropped(graph):
    add = next(node for node in graph.nodes if node.op == "Add" and node.name.startswith(f"{MERGE}/"))
    branch = next(tensor for tensor in add.inputs if ".mlp" in tensor.inputs[0].name)
    add.inputs = [branch, gs.Constant("planted", np.zeros(1, np.float32))]


@fault
def weights_swapped(graph):
    """Blocks 0 and 1 exchange their value projections."""
    first, second = (node_named(graph, f"{BLOCK(block)}.attention.v_proj/MatMul") for block in (0, 1))
    first.inputs[1], second.inputs[1] = second.inputs[1], first.inputs[1]


@fault
def bias_lost(graph):
    add = next(node for node in graph.nodes if node.op == "Add" and node.name.startswith(f"{MERGE}.mlp.linear_1"))
    index = next(i for i, tensor in enumerate(add.inputs) if isinstance(tensor, gs.Constant))
    add.inputs[index] = gs.Constant("planted", np.zeros_like(add.inputs[index].values))


@fault
def norm_weight_lost(graph):
    """The last norm's weight is taken for ones."""
    scale = next(
        node
        for node in graph.nodes
        if node.op == "Mul" and node.name.startswith("vision_model.encoder.rms_norm") and _constant(node) is not None
    )
    index = _constant(scale)
    scale.inputs[index] = gs.Constant("planted", np.ones_like(scale.inputs[index].values))


def _constant(node):
    return next((i for i, tensor in enumerate(node.inputs) if isinstance(tensor, gs.Constant)), None)


FAULTS = {
    wrong_permutation: MERGE,
    scale_lost: BLOCK(3),
    residual_of_one_token: f"{MERGE}.residual",
    residual_dropped: MERGE,
    weights_swapped: BLOCK(0),
    bias_lost: MERGE,
    norm_weight_lost: "vision_model.encoder.rms_norm",
}


def bisected(proof):
    return Bisection(proof.agreements, "fp32", proof.judge)


@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__)
def test_a_planted_fault_is_caught_and_its_module_named(tower, monkeypatch, plant):
    traced = tower.fresh()
    plant(monkeypatch, traced)
    proof = prove_rewrites(tower.reference, traced.graph)
    with pytest.raises(ExportError, match="does not compute what PyTorch computes"):
        proof.require()
    assert bisected(proof).to_json()["first_drifting"] == FAULTS[plant]


def operators(graph, op, within):
    return [node for node in graph.nodes if node.op == op and f"{within}." in node.name]


def keys_and_values_exchanged(graph):
    (node,) = operators(graph, "Attention", BLOCK(1))
    node.inputs[1], node.inputs[2] = node.inputs[2], node.inputs[1]


def epsilon_of_a_fused_norm_lost(graph):
    for node in operators(graph, "RMSNormalization", BLOCK(2)):
        node.attrs["epsilon"] = 0.5


def layer_scale_forgot_the_bias(graph):
    scaled = [tensor for tensor in graph.tensors().values() if tensor.name.endswith(":bias_layer_scaled")]
    bias = next(tensor for tensor in scaled if ".layer.1." in tensor.name)
    bias.values = bias.values * 10  # transformers' LayerScale is about 0.1


def mean_over_other_axes(graph):
    mean = next(node for node in graph.nodes if node.op == "ReduceMean" and node.name.endswith("WindowMean"))
    first = mean.inputs[1].values.tolist()[0]  # of [B, h, r, w, r, C]: the window's rows and its columns
    mean.inputs[1] = gs.Constant("planted", np.array([first, first + 1], np.int64))


FORM_FAULTS = {
    "fuse_attention": (keys_and_values_exchanged, {}, "trt10.14", BLOCK(1)),
    "fuse_heads": (keys_and_values_exchanged, {}, "ort-cpu", BLOCK(1)),
    "fuse_rms_norms": (epsilon_of_a_fused_norm_lost, {}, "trt10.14", BLOCK(2)),
    "fold_layer_scale": (
        layer_scale_forgot_the_bias,
        {"kind": "internvit"},
        "trt10.3",
        "vision_model.encoder.encoder.layer.1",
    ),
    "pool_windows": (mean_over_other_axes, {"kind": "siglip", "method": "ldpv2"}, "trt10.3", MERGE),
}


@pytest.mark.parametrize("rewrite", FORM_FAULTS)
def test_a_fault_in_a_form_is_caught_and_its_module_named(trace, rewrite):
    plant, options, target, module = FORM_FAULTS[rewrite]
    traced = trace(blocks=4, **options)
    reference = Reference.of(traced.tower, [traced.pixels])
    records = [*apply_rewrites(traced.graph, traced.merges), *apply_forms(traced.graph, traced.merges, target)]
    assert {record["name"]: record["fired"] for record in records}[rewrite] > 0
    prove_rewrites(reference, traced.graph).require()
    plant(traced.graph)
    proof = prove_rewrites(reference, traced.graph)
    with pytest.raises(ExportError):
        proof.require()
    assert bisected(proof).to_json()["first_drifting"] == module


def test_without_a_fault_nothing_drifts(tower):
    traced = tower.fresh()
    apply_rewrites(traced.graph, traced.merges)
    proof = prove_rewrites(tower.reference, traced.graph)
    proof.require()
    bisection = bisected(proof)
    assert bisection.first is None
    assert "no block is out of tolerance" in bisection.sentence
    assert len(proof.agreements[REWRITTEN]) == 14  # embeddings, 4 blocks, residual, merge, norm, features; 5 branches


def test_every_block_shows_its_own_error_alone(tower):
    """Block by block: weights swapped in block 0 leave the other blocks' numbers as they were."""
    traced = tower.fresh()
    apply_rewrites(traced.graph, traced.merges)
    clean = {
        tensor.name: tensor.cosine for tensor in prove_rewrites(tower.reference, traced.graph).agreements[REWRITTEN]
    }
    up = node_named(traced.graph, f"{BLOCK(0)}.ffn.up_proj/MatMul")
    up.inputs[1] = gs.Constant("planted", -up.inputs[1].values)
    for tensor in prove_rewrites(tower.reference, traced.graph).agreements[REWRITTEN]:
        if tensor.name.startswith(BLOCK(0)):
            assert tensor.cosine < 0.9999
        else:
            assert tensor.cosine == clean[tensor.name]
