import numpy as np
import onnx_graphsurgeon as gs
import pytest


def test_nodes_carry_the_names_of_pytorch_modules(trace):
    traced = trace()
    modules = {name for name, _ in traced.tower.named_modules()}
    names = [node.name for node in traced.graph.nodes]
    assert len(set(names)) == len(names)
    strangers = [name for name in names if "/" in name and name.rpartition("/")[0] not in modules]
    assert strangers == []
    assert "vision_model.encoder.encoder.layers.1.attention.q_proj/MatMul" in names
    assert "projector.linear_2/MatMul" in names


def test_outputs_are_the_features_and_every_boundary(trace):
    traced = trace("internvit")
    assert [output.name for output in traced.graph.outputs] == [
        "image_features",
        "vision_model.embeddings",
        "vision_model.encoder.encoder.layer.0",
        "vision_model.compressors.block_1.residual",
        "vision_model.compressors.block_1",
        "vision_model.encoder.encoder.layer.1",
    ]  # the final norm is an Identity: the last block's tensor under another name


def test_every_shape_is_static_and_weights_are_named_after_their_layer(trace):
    graph = trace().graph
    for name, tensor in graph.tensors().items():
        assert all(isinstance(size, int) and size > 0 for size in tensor.shape), name
    down = graph.tensors()["vision_model.encoder.encoder.layers.0.ffn.down_proj.weight.transposed"]
    assert isinstance(down, gs.Constant)
    assert down.values.shape == (48, 32)


@pytest.mark.parametrize("kind", ["aimv2", "siglip", "internvit"])
def test_computes_what_pytorch_computes(trace, differences, kind):
    assert differences(trace(kind)) == []


def test_a_swapped_weight_is_seen(trace, differences):
    traced = trace()
    tensors = traced.graph.tensors()
    first, second = (f"vision_model.encoder.encoder.layers.{i}.ffn.up_proj.weight.transposed" for i in (0, 1))
    tensors[first].values, tensors[second].values = tensors[second].values, tensors[first].values
    differing = differences(traced)
    tensors[first].values, tensors[second].values = tensors[second].values, tensors[first].values
    assert differing[0] == "image_features"
    assert "vision_model.encoder.encoder.layers.0" in differing
    assert "vision_model.embeddings" not in differing


def test_an_older_opset_computes_the_same(trace, differences):
    traced = trace(opset=18)
    assert traced.graph.opset == 18
    assert differences(traced) == []
    assert np.isfinite(traced.expected["image_features"]).all()
