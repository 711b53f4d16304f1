"""Every published size of the families is traced, without a weight being there."""

import sys

import onnx
import pytest
from onnx import helper

from laco_export.exporter.decoder import tracing
from laco_export.exporter.decoder.tracing import has_optimum, trace

QWEN = {"model_type": "qwen2", "vocab_size": 151936, "max_position_embeddings": 32768, "rope_theta": 1e6}
SHAPES = {
    # hidden, intermediate, layers, heads, KV heads, head_dim
    "qwen2.5 0.5b": (QWEN, (896, 4864, 24, 14, 2, 64)),
    "qwen2.5 1.5b": (QWEN, (1536, 8960, 28, 12, 2, 128)),
    "qwen2.5 7b": ({**QWEN, "vocab_size": 152064}, (3584, 18944, 28, 28, 4, 128)),
    "qwen3 4b": ({**QWEN, "model_type": "qwen3"}, (2560, 9728, 36, 32, 8, 128)),
    "llama 3.2 1b": ({"model_type": "llama", "vocab_size": 128256}, (2048, 8192, 16, 32, 8, 64)),
}


def model_without_weights(fields: dict, sizes: tuple[int, ...]):
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    hidden, intermediate, layers, heads, kv_heads, head_dim = sizes
    config = CONFIG_MAPPING[fields["model_type"]](
        **{key: value for key, value in fields.items() if key != "model_type"},
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    model.model.rotary_emb = type(model.model.rotary_emb)(config)  # computed, not loaded
    return model.eval()


def test_optimum_that_allows_no_such_transformers_is_left_alone(monkeypatch):
    """Though it can be imported."""
    for name in ("optimum", "optimum.exporters", "optimum.exporters.onnx"):
        monkeypatch.setitem(sys.modules, name, sys)
    monkeypatch.setattr(tracing, "optimum_conflict", lambda: None)
    assert has_optimum()
    monkeypatch.setattr(tracing, "optimum_conflict", lambda: "optimum-onnx 0.1.0 needs transformers<4.58.0, not 5.24.0")
    assert not has_optimum()


@pytest.mark.parametrize("name", SHAPES)
def test_a_published_size_is_traced(name, tmp_path):
    fields, sizes = SHAPES[name]
    hidden, intermediate, layers, heads, kv_heads, head_dim = sizes
    graph = onnx.load(trace(model_without_weights(fields, sizes), tmp_path)).graph
    linears = {}
    for node in graph.node:
        if node.op_type == "Linear":
            attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
            linears[attributes["weights"].decode()] = attributes["size"]
    last = f"model.layers.{layers - 1}"
    projections = [f"{last}.self_attn.{kind}_proj" for kind in "qkv"]
    widths = [heads * head_dim, kv_heads * head_dim, kv_heads * head_dim]
    if fields["model_type"] == "qwen3":  # norms stand between the projections and the attention
        assert [linears[projection] for projection in projections] == widths
    else:
        assert linears[",".join(projections)] == sum(widths)
    assert linears[f"{last}.mlp.gate_proj"] == linears[f"{last}.mlp.up_proj"] == intermediate
    assert linears[f"{last}.mlp.down_proj"] == linears[f"{last}.self_attn.o_proj"] == hidden
    assert linears["lm_head"] == fields["vocab_size"]
    attention = [node for node in graph.node if node.op_type == "GroupQueryAttention"]
    assert len(attention) == layers
    inputs = {value.name: value.type.tensor_type.shape.dim for value in graph.input}
    assert len(inputs) == 4 + 2 * layers
    assert [dim.dim_value for dim in inputs["past_key_values.0.key"]][1::2] == [kv_heads, head_dim]
    assert inputs["inputs_embeds"][2].dim_value == hidden
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2_000_000


def test_torch_alone_writes_what_optimum_does(make_language_model, family, tmp_path):
    pytest.importorskip("optimum.exporters.onnx", reason="needs Optimum, which transformers 5 has none of")
    # What Optimum moves to generation_config.json, as transformers asks for where a config.json holds it.
    model = make_language_model(family, max_length=77)
    files = {}
    for by_optimum in (True, False):
        folder = tmp_path / str(by_optimum)
        folder.mkdir()
        trace(model, folder, by_optimum=by_optimum)
        files[by_optimum] = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert sorted(files[True]) == ["config.json", "generation_config.json", "model.onnx"]
    assert files[False] == files[True]
