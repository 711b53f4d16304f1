"""What an export writes, and that it leaves the model alone."""

import copy
import logging

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from laco_export.embedding_table import EmbeddingTable
from laco_export.errors import ExportError
from laco_export.exporter.decoder import DECODER_PRECISIONS, export_decoder, verify_decoder


def load(folder, decoder):
    return onnx.load(folder / decoder.graph, load_external_data=False).graph


def test_what_the_manifest_is_told(exported):
    _, folder, decoder = exported
    assert (decoder.model_type, decoder.precision, decoder.quantization) == ("qwen2", "fp32", None)
    assert (decoder.hidden_size, decoder.vocab_size, decoder.context_length) == (64, 120, 128)
    assert (decoder.image_token_id, decoder.eos_token_ids) == (9, [5, 6])
    for name in (decoder.graph, decoder.embedding.rows.file):
        assert (folder / name).is_file()


def test_the_graph_takes_embeddings_and_a_cache(exported):
    _, folder, decoder = exported
    session = onnxruntime.InferenceSession(folder / decoder.graph, providers=["CPUExecutionProvider"])
    inputs = {value.name: value.shape for value in session.get_inputs()}
    cache = [f"past_key_values.{layer}.{kind}" for layer in (0, 1) for kind in ("key", "value")]
    step = {"inputs_embeds", "seqlens_k", "total_sequence_length", "logit_positions"}
    assert set(inputs) == {*step, *cache}
    assert inputs["inputs_embeds"][2] == 64
    assert session.get_outputs()[0].name == "logits"


@pytest.mark.parametrize("precision", DECODER_PRECISIONS)
def test_the_operators_of_a_layer(make_language_model, export, precision, tmp_path):
    graph = load(tmp_path, export(make_language_model(), tmp_path, precision))
    operators = {}
    for node in graph.node:
        operators[node.op_type] = operators.get(node.op_type, 0) + 1
    products = 2 * 5 + 8  # q, k and v in one, the head in slices
    assert operators == {
        **({"MatMulNBits": products} if precision.startswith("int") else {"FusedMatMul": products, "Add": 2}),
        "Concat": 1,
        "SimplifiedLayerNormalization": 1,
        "SkipSimplifiedLayerNormalization": 4,
        "GroupQueryAttention": 2,
        "Sigmoid": 2,
        "Mul": 4,
        "GatherND": 1,
        **({"Cast": 1} if precision == "fp16" else {}),
    }


@pytest.mark.parametrize("precision", DECODER_PRECISIONS)
@pytest.mark.parametrize("name", ["qwen2 tied", "qwen2 untied"])
def test_a_tied_embedding_is_stored_once(make_language_model, export, name, precision, tmp_path):
    model = make_language_model(name)
    decoder = export(model, tmp_path, precision)
    tied = name == "qwen2 tied"
    assert decoder.embedding.tied is tied
    weights = {tensor.name: tensor for tensor in load(tmp_path, decoder).initializer}
    head = weights.get("lm_head.weight[0]", weights.get("lm_head.blocks[0]"))
    offset = int({entry.key: entry.value for entry in head.external_data}["offset"])
    assert (offset == decoder.embedding.rows.offset) is tied
    parameters = {id(p): p for p in model.parameters()}.values()  # a shared one counts once
    per_weight = {"fp32": 4, "fp16": 2, "int8": 2.1, "int4": 1.6}[precision]  # 64 columns padded to a block of 128
    expected = per_weight * sum(parameter.numel() for parameter in parameters)
    table_bytes = per_weight * 120 * 64
    assert (tmp_path / decoder.embedding.rows.file).stat().st_size < expected + 0.6 * table_bytes + 40_000


@pytest.mark.parametrize("vocab_size", [123, 5])
@pytest.mark.parametrize("precision", DECODER_PRECISIONS)
def test_a_head_of_any_size_is_cut_into_slices(make_language_model, export, precision, vocab_size, tmp_path):
    model = make_language_model(vocab_size=vocab_size)
    decoder = export(model, tmp_path, precision)
    graph = load(tmp_path, decoder)
    weights = {tensor.name: tensor for tensor in graph.initializer}
    joined = next(node for node in graph.node if node.op_type == "Concat")
    heads = {node.output[0]: weights[node.input[1]] for node in graph.node if node.output[0] in joined.input}
    rows = [heads[part].dims[0] for part in joined.input]
    assert sum(rows) == vocab_size and len(rows) == min(8, vocab_size) and max(rows) - min(rows) <= 1
    entries = [{entry.key: int(entry.value) for entry in heads[part].external_data[1:]} for part in joined.input]
    ends = [entry["offset"] + entry["length"] for entry in entries]
    assert [entry["offset"] for entry in entries[1:]] == ends[:-1]  # one after the other
    assert verify_decoder(model, tmp_path, decoder)["cached"]["cosine"] > 0.99


@pytest.mark.parametrize("precision", DECODER_PRECISIONS)
@pytest.mark.parametrize("name", ["qwen2 tied", "qwen2 untied"])
def test_the_embedding_rows_are_the_models(make_language_model, export, name, precision, tmp_path):
    model = make_language_model(name)
    table = EmbeddingTable(tmp_path, export(model, tmp_path, precision).embedding)
    expected = model.get_input_embeddings().weight.detach().numpy()
    ids = np.array([[0, 5], [119, 7]])
    rows = table.rows(ids)
    assert rows.shape == (2, 2, 64) and rows.dtype == np.float32
    step = {"fp32": 0, "fp16": 2.0**-11}.get(precision, 1 / 128)  # of the row's largest value
    assert np.abs(rows - expected[ids]).max() <= step * np.abs(expected).max()


def test_the_weights_are_external_whatever_their_size(exported):
    _, folder, decoder = exported
    graph = load(folder, decoder)
    external = [weight for weight in graph.initializer if weight.data_location == onnx.TensorProto.EXTERNAL]
    assert {entry.value for weight in external for entry in weight.external_data if entry.key == "location"} == {
        "model.onnx_data"
    }
    assert sum(len(weight.raw_data) for weight in graph.initializer) < 1000
    assert (folder / f"{decoder.graph}_data").stat().st_mode == (folder / decoder.graph).stat().st_mode


def test_a_bfloat16_model_is_exported(make_language_model, export, tmp_path):
    """Published weights are bfloat16; the graph is FP32 all the same, and holds them exactly."""
    model = make_language_model().to(torch.bfloat16)
    decoder = export(model, tmp_path)
    table = EmbeddingTable(tmp_path, decoder.embedding)
    assert np.array_equal(table.rows(np.arange(120)), model.get_input_embeddings().weight.detach().float().numpy())


def test_weights_that_fp16_cannot_hold_are_refused(make_language_model, export, tmp_path):
    model = make_language_model()
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = 1e5
    with pytest.raises(ExportError, match="up_proj") as caught:
        export(model, tmp_path, "fp16")
    assert "1e+05" in str(caught.value)


def test_the_model_is_left_as_it_was(make_language_model, export, tmp_path):
    model = make_language_model().train()
    before = copy.deepcopy((model.config.to_dict(), model.generation_config.to_dict()))
    weights = {name: parameter.clone() for name, parameter in model.named_parameters()}
    export(model, tmp_path, "int4")
    assert (model.config.to_dict(), model.generation_config.to_dict()) == before
    assert model.training
    assert not any("forward" in vars(module) for module in model.modules())
    assert all(torch.equal(parameter, weights[name]) for name, parameter in model.named_parameters())


def test_the_generation_config_ends_answers_and_keeps_the_rest(make_language_model, tmp_path):
    from transformers import GenerationConfig

    generation_config = GenerationConfig(repetition_penalty=1.1, do_sample=True, temperature=0.7, eos_token_id=1)
    export_decoder(
        make_language_model(),
        image_token_id=9,
        eos_token_ids=[5, 6],
        output_folder=tmp_path,
        generation_config=generation_config,
    )
    written = GenerationConfig.from_pretrained(tmp_path / "llm")
    assert written.eos_token_id == [5, 6]
    assert written.pad_token_id == 5
    assert (written.repetition_penalty, written.temperature) == (1.1, 0.7)
    assert generation_config.eos_token_id == 1


def test_nothing_is_said_but_the_steps(make_language_model, tmp_path, capfd, caplog):
    said = []
    with caplog.at_level(logging.INFO):
        export_decoder(
            make_language_model(),
            image_token_id=9,
            eos_token_ids=[5],
            output_folder=tmp_path,
            advance=lambda steps, description: said.append((steps, description)),
        )
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""
    assert said == [(0, "tracing the language model"), (0, "writing the language model's weights in fp32")]
