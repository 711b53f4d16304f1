"""The arithmetic of a language model's pass, against its configuration."""

import json
import shutil

import onnx
import pytest
from onnx import TensorProto, helper

from laco_engines.cost.decoder_cost import decoder_cost


@pytest.fixture
def graph_file(bundle):
    return bundle.file(bundle.manifest.decoder.graph)


def weights_by_configuration(bundle) -> tuple[int, int]:
    """What each token is multiplied with, and what the last one is: of a Qwen2 with one key and value head."""
    decoder = bundle.manifest.decoder
    config = json.loads(bundle.read(f"{decoder.folder}/config.json"))
    width, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    head = width // config["num_attention_heads"]
    attention = 2 * width * width + 2 * width * head * config["num_key_value_heads"]
    return layers * (attention + 3 * width * inner), width * decoder.vocab_size


@pytest.mark.parametrize("tokens", [1, 40])
def test_a_pass_multiplies_each_weight_with_each_token(bundle, graph_file, tokens):
    body, head = weights_by_configuration(bundle)
    cost = decoder_cost(graph_file, tokens)
    assert cost.flops == {"fp32": 2 * (body * tokens + head)}
    assert 4 * (body + head) <= cost.weight_bytes < 4 * (body + head) * 1.3  # norms, biases, rotary tables
    assert cost.least_traffic == cost.weight_bytes


def test_packed_weights_count_as_what_they_stand_for(tmp_path):
    """A graph of two packed products, the second of which gives the logits."""
    value = helper.make_tensor_value_info
    packed = lambda name, k, n, bits: helper.make_tensor(
        name, TensorProto.UINT8, [n, k // 32, 32 * bits // 8], bytes(n * k * bits // 8), raw=True
    )
    nodes = [
        helper.make_node("MatMulNBits", ["x", "w"], ["y"], domain="com.microsoft", K=64, N=96, bits=4, block_size=32),
        helper.make_node("MatMulNBits", ["y", "h"], ["z"], domain="com.microsoft", K=96, N=32, bits=8, block_size=32),
        helper.make_node("Concat", ["z", "z"], ["logits"], axis=-1),
    ]
    graph = helper.make_graph(
        nodes,
        "packed",
        [value("x", TensorProto.FLOAT, [1, "T", 64])],
        [value("logits", TensorProto.FLOAT, [1, "T", 64])],
        [packed("w", 64, 96, 4), packed("h", 96, 32, 8)],
    )
    onnx.save(helper.make_model(graph), tmp_path / "packed.onnx")
    cost = decoder_cost(tmp_path / "packed.onnx", 10)
    assert cost.flops == {"int8": 2 * (64 * 96 * 10 + 96 * 32)}
    assert cost.weight_bytes == 64 * 96 // 2 + 96 * 32


def test_the_weights_file_is_not_read(bundle, graph_file, tmp_path):
    alone = shutil.copy(graph_file, tmp_path / "alone.onnx")
    assert decoder_cost(alone, 3) == decoder_cost(graph_file, 3)
