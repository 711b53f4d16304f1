"""fuse_attention (TensorRT's form) and fuse_heads (ONNX Runtime's)."""

from importlib import import_module

import pytest

from laco_export.exporter.rewrites import apply_forms, apply_rewrites
from laco_export.exporter.rewrites.fuse_attention import fuse_attention
from laco_export.exporter.rewrites.fuse_heads import fuse_heads

BLOCK = "vision_model.encoder.encoder.layers.0"
BOTH = pytest.mark.parametrize("rewrite", [fuse_attention, fuse_heads], ids=lambda rewrite: rewrite.__name__)


def rewritten(trace, kind="aimv2", **options):
    traced = trace(kind, **options)
    apply_rewrites(traced.graph, traced.merges)
    traced.graph.opset = 23
    return traced


def attentions(graph):
    return [node for node in graph.nodes if node.op == "Attention"]


@BOTH
@pytest.mark.parametrize("kind", ["aimv2", "siglip", "internvit", "clip"])
def test_every_block_has_one_attention_node(trace, differences, kind, rewrite):
    traced = rewritten(trace, kind)
    outcome = rewrite(traced.graph, traced.merges)
    traced.graph.cleanup().toposort()
    assert (outcome.fired, outcome.refused) == (2, ())
    assert len(attentions(traced.graph)) == 2
    assert "Softmax" not in {node.op for node in traced.graph.nodes}
    assert differences(traced) == []


def test_tensorrt_gets_four_dimensions(trace):
    traced = rewritten(trace)
    fuse_attention(traced.graph, traced.merges)
    for node in attentions(traced.graph):
        assert [len(tensor.shape) for tensor in node.inputs] == [4, 4, 4]
        assert not {"q_num_heads", "kv_num_heads"} & set(node.attrs)


def test_onnxruntime_gets_no_transposes(trace):
    traced = rewritten(trace)
    fuse_heads(traced.graph, traced.merges)
    traced.graph.cleanup().toposort()
    in_blocks = {node.op for node in traced.graph.nodes if ".encoder.encoder.layers" in node.name}
    assert not {"Transpose", "Reshape"} & in_blocks


@BOTH
def test_the_module_keeps_its_name(trace, rewrite):
    traced = rewritten(trace)
    rewrite(traced.graph, traced.merges)
    names = [node.name for node in attentions(traced.graph)]
    assert names == [f"vision_model.encoder.encoder.layers.{block}.attention/Attention" for block in range(2)]


@BOTH
def test_a_scale_that_is_applied_twice_is_seen(trace, differences, monkeypatch, rewrite):
    module = import_module(rewrite.__module__)
    node = module.gs.Node

    def again(op, name, attrs, inputs, outputs=None):
        return node(op, name, {**attrs, "scale": 0.35} if op == "Attention" else attrs, inputs, outputs)

    traced = rewritten(trace)
    with monkeypatch.context() as patch:
        patch.setattr(module.gs, "Node", again)
        rewrite(traced.graph, traced.merges)
    traced.graph.cleanup().toposort()
    assert BLOCK in differences(traced)


@BOTH
def test_keys_and_values_exchanged_are_seen(trace, differences, rewrite):
    traced = rewritten(trace)
    rewrite(traced.graph, traced.merges)
    traced.graph.cleanup().toposort()
    first = attentions(traced.graph)[0]
    first.inputs[1], first.inputs[2] = first.inputs[2], first.inputs[1]
    assert BLOCK in differences(traced)


@BOTH
def test_an_attention_of_another_form_stays(trace, differences, rewrite):
    traced = rewritten(trace, method="token_packer")
    outcome = rewrite(traced.graph, traced.merges)
    traced.graph.cleanup().toposort()
    assert outcome.fired == 2
    assert len(outcome.refused) == 1
    assert "compressors" in outcome.refused[0]
    assert differences(traced) == []


@pytest.mark.parametrize(("target", "dimensions"), [("trt10.3", None), ("trt10.14", 4), ("ort-cpu", 3)])
def test_each_target_gets_the_form_that_it_reads(trace, target, dimensions):
    traced = rewritten(trace)
    apply_forms(traced.graph, traced.merges, target)
    dimensions_of_queries = {len(node.inputs[0].shape) for node in attentions(traced.graph)}
    assert dimensions_of_queries == ({dimensions} if dimensions else set())
