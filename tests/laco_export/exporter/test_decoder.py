"""The decoder as ONNX: the logits of PyTorch, from embeddings, with and without its cache."""

import copy
import json
import logging

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from laco_export.errors import ExportError
from laco_export.exporter import decoder_proof
from laco_export.exporter.decoder import export_decoder, verify_decoder

SIZE = {
    "vocab_size": 120,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
}
FAMILIES = {
    "qwen2 tied": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZE, tie_word_embeddings=True)),
    "qwen2 untied": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZE, tie_word_embeddings=False)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZE, head_dim=16)),  # not hidden_size / heads
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZE)),
}


def make(name):
    torch.manual_seed(0)
    return FAMILIES[name]().eval()


def export(model, folder):
    return export_decoder(model, image_token_id=9, eos_token_ids=[5, 6], output_folder=folder)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    model, folder = make("qwen2 tied"), tmp_path_factory.mktemp("exported")
    return model, folder, export(model, folder)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_computes_what_pytorch_computes(name, tmp_path):
    model = make(name)
    report = verify_decoder(model, tmp_path, export(model, tmp_path))
    for part in ("whole", "cached"):
        assert report[part]["cosine"] > 0.99999
        assert report[part]["norm_ratio"] == pytest.approx(1, abs=1e-5)
        assert report[part]["max_abs"] < 1e-4
        assert report[part]["same_best_token"] == 1
    json.dumps(report)


def test_what_the_manifest_is_told(exported):
    _, folder, decoder = exported
    assert (decoder.model_type, decoder.precision) == ("qwen2", "fp32")
    assert (decoder.hidden_size, decoder.vocab_size, decoder.context_length) == (32, 120, 128)
    assert (decoder.image_token_id, decoder.eos_token_ids) == (9, [5, 6])
    for name in (decoder.graph, decoder.embedding_table, f"{decoder.graph}_data"):
        assert (folder / name).is_file()


def test_the_graph_takes_embeddings_and_a_cache(exported):
    _, folder, decoder = exported
    session = onnxruntime.InferenceSession(folder / decoder.graph, providers=["CPUExecutionProvider"])
    inputs = {value.name: value.shape for value in session.get_inputs()}
    cache = [f"past_key_values.{layer}.{kind}" for layer in (0, 1) for kind in ("key", "value")]
    assert set(inputs) == {"inputs_embeds", "attention_mask", "position_ids", *cache}
    assert inputs["inputs_embeds"][2] == 32
    assert session.get_outputs()[0].name == "logits"


def test_the_weights_are_external_whatever_their_size(exported):
    _, folder, decoder = exported
    graph = onnx.load(folder / decoder.graph, load_external_data=False).graph
    external = [weight for weight in graph.initializer if weight.data_location == onnx.TensorProto.EXTERNAL]
    assert {entry.value for weight in external for entry in weight.external_data if entry.key == "location"} == {
        "model.onnx_data"
    }
    inline = sum(len(weight.raw_data) for weight in graph.initializer)
    assert inline < 10_000
    assert (folder / f"{decoder.graph}_data").stat().st_mode == (folder / decoder.graph).stat().st_mode


def test_the_embedding_table_can_be_mapped(exported):
    model, folder, decoder = exported
    table = np.load(folder / decoder.embedding_table, mmap_mode="r")
    assert isinstance(table, np.memmap)
    assert np.array_equal(table, model.get_input_embeddings().weight.detach().numpy())


def test_the_model_is_left_as_it_was(tmp_path):
    model = make("qwen2 tied").train()
    before = copy.deepcopy((model.config.to_dict(), model.generation_config.to_dict()))
    export(model, tmp_path)
    assert (model.config.to_dict(), model.generation_config.to_dict()) == before
    assert model.training


def test_the_generation_config_ends_answers_and_keeps_the_rest(tmp_path):
    from transformers import GenerationConfig

    model = make("qwen2 tied")
    given = GenerationConfig(repetition_penalty=1.1, do_sample=True, temperature=0.7, eos_token_id=1)
    export_decoder(model, image_token_id=9, eos_token_ids=[5, 6], output_folder=tmp_path, generation_config=given)
    written = GenerationConfig.from_pretrained(tmp_path / "llm")
    assert written.eos_token_id == [5, 6]
    assert written.pad_token_id == 5
    assert (written.repetition_penalty, written.temperature) == (1.1, 0.7)
    assert given.eos_token_id == 1


def test_nothing_is_said_but_the_steps(tmp_path, capfd, caplog):
    said = []
    with caplog.at_level(logging.INFO):
        export_decoder(
            make("qwen2 tied"),
            image_token_id=9,
            eos_token_ids=[5],
            output_folder=tmp_path,
            advance=lambda steps, description: said.append((steps, description)),
        )
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""
    assert said == [(0, "tracing the language model"), (0, "writing the embedding table")]


def damage_weight(folder, decoder, factor):
    path = folder / f"{decoder.graph}_data"
    data = np.fromfile(path, np.float32)
    data[: len(data) // 2] *= factor
    data.tofile(path)


@pytest.mark.parametrize("factor", [0.99, 1.02, -1])
def test_wrong_weights_are_found(tmp_path, factor):
    model = make("qwen2 tied")
    decoder = export(model, tmp_path)
    damage_weight(tmp_path, decoder, factor)
    with pytest.raises(ExportError, match="does not compute what PyTorch computes"):
        verify_decoder(model, tmp_path, decoder)


def test_a_wrong_embedding_table_is_found(tmp_path):
    model = make("qwen2 tied")
    decoder = export(model, tmp_path)
    table = np.load(tmp_path / decoder.embedding_table)
    np.save(tmp_path / decoder.embedding_table, table[::-1])
    with pytest.raises(ExportError, match="embedding table"):
        verify_decoder(model, tmp_path, decoder)


def test_a_broken_cache_is_found(exported, monkeypatch):
    model, folder, decoder = exported
    run = decoder_proof._run

    def forgetful(session, embeds, cache):
        logits, cache = run(session, embeds, cache)
        return logits, {name: np.zeros_like(value) for name, value in cache.items()}

    monkeypatch.setattr(decoder_proof, "_run", forgetful)
    with pytest.raises(ExportError, match="with its KV cache"):
        verify_decoder(model, folder, decoder)


def test_the_prompt_holds_embeddings_that_are_no_token(exported):
    model, _, _ = exported
    table = model.get_input_embeddings().weight.detach().numpy()
    embeds = decoder_proof._prompt_embeds(table, 24)
    distances = np.linalg.norm(embeds[0][:, None] - table[None], axis=-1).min(1)
    assert (distances[8:16] > 0.1).all()
    assert (distances[:8] == 0).all()
    assert (distances[16:] == 0).all()


def test_an_unsupported_family_is_refused(tmp_path):
    model = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2))
    with pytest.raises(ExportError) as caught:
        export(model, tmp_path)
    assert "gpt2" in str(caught.value)
    assert "qwen2, qwen3, llama" in str(caught.value)
