"""A reduced head gives the whole head's logits at its tokens and -inf at the others, and a wrong one is found."""

import numpy as np
import onnx
import pytest
import torch

from laco_export.decoder_steps import run_decoder
from laco_export.embedding_table import EmbeddingTable
from laco_export.errors import ExportError
from laco_export.exporter.decoder import DECODER_PRECISIONS, verify_decoder
from laco_export.exporter.decoder.reduced_head import TOKEN_IDS
from laco_export.exporter.decoder.reduced_vocabulary import ReducedVocabulary
from laco_export.exporter.decoder.rounded import rounded_weights
from laco_export.exporter.decoder.stepping import decoder_session

KEPT = np.array([0, 5, 6, 9, *range(20, 118, 4)])
LEFT_OUT = np.setdiff1d(np.arange(120), KEPT)
REDUCED = ReducedVocabulary(KEPT, 120, "some texts", 0.9, ())


@pytest.fixture(scope="module")
def embeds():
    return np.random.default_rng(0).normal(0, 0.2, (1, 12, 64)).astype(np.float32)


@pytest.mark.parametrize("name", ["qwen2 tied", "qwen2 untied"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int4"])
def test_logits_of_its_tokens_are_the_whole_heads(make_language_model, export, embeds, name, precision, tmp_path):
    """And its embedding's rows are those of the whole decoder, bit by bit: what it reads is unchanged."""
    model = make_language_model(name)
    logits, tables = {}, {}
    for kind, vocabulary in (("whole", None), ("reduced", REDUCED)):
        entry = export(model, tmp_path / kind, precision, vocabulary)
        logits[kind] = run_decoder(decoder_session(tmp_path / kind / entry.graph), embeds, None)[0]
        tables[kind] = EmbeddingTable(tmp_path / kind, entry.embedding).rows(np.arange(120))
    assert (logits["reduced"][:, LEFT_OUT] == -np.inf).all()
    # The same sums of as many products; a half's last bit is 2^-11 of a logit.
    tolerance = 2e-3 if precision == "fp16" else 1e-5
    np.testing.assert_allclose(logits["reduced"][:, KEPT], logits["whole"][:, KEPT], tolerance, tolerance)
    np.testing.assert_array_equal(tables["reduced"], tables["whole"])
    assert entry.embedding.tied is False
    assert (entry.vocabulary["rows"], entry.vocabulary["of"], entry.vocab_size) == (len(KEPT), 120, 120)


def test_rows_and_positions_of_a_batch_keep_their_places(make_language_model, export, tmp_path):
    model = make_language_model()
    session = decoder_session(tmp_path / export(model, tmp_path, vocabulary=REDUCED).graph)
    rows = np.random.default_rng(1).normal(0, 0.2, (2, 5, 64)).astype(np.float32)
    alone = np.stack([run_decoder(session, row[None], None)[0] for row in rows])  # [B, T, V]
    feeds = {value.name: np.zeros((2, 2, 0, 16), np.float32) for value in session.get_inputs() if "past" in value.name}
    feeds |= {"inputs_embeds": rows, "seqlens_k": np.full(2, 4, np.int32)}
    feeds |= {"total_sequence_length": np.array(5, np.int32)}
    feeds |= {"logit_positions": np.array([[0, 2, 4], [1, 2, 3]])[..., None]}
    together = session.run(["logits"], feeds)[0]
    expected = np.stack([alone[0, [0, 2, 4]], alone[1, [1, 2, 3]]])
    np.testing.assert_array_equal(np.isneginf(together), np.isneginf(expected))
    np.testing.assert_allclose(together[..., KEPT], expected[..., KEPT], rtol=1e-4, atol=1e-5)


def test_a_heads_bias_goes_with_its_rows(make_language_model, export, embeds, tmp_path):
    model = make_language_model("qwen2 untied")
    model.lm_head.bias = torch.nn.Parameter(torch.randn(120))
    entry = export(model, tmp_path, vocabulary=REDUCED)
    logits = run_decoder(decoder_session(tmp_path / entry.graph), embeds, None)[0]
    with torch.inference_mode():
        expected = model(inputs_embeds=torch.from_numpy(embeds)).logits[0].numpy()
    np.testing.assert_allclose(logits[:, KEPT], expected[:, KEPT], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int4"])
def test_it_is_proven_and_its_use_told(make_language_model, export, text_prompts, precision, tmp_path):
    model = make_language_model()
    entry = export(model, tmp_path, precision, REDUCED)
    cost = verify_decoder(model, tmp_path, entry, text_prompts, None, token_ids=KEPT)["cost"]
    following = np.concatenate([prompt.ids[1:] for prompt in text_prompts.judged])
    assert cost["vocabulary"]["next_has_row"] == pytest.approx(np.isin(following, KEPT).mean())
    assert 0 < cost["vocabulary"]["best_has_row"] < 1
    if precision == "fp32":
        assert cost["kl_mean"] < 1e-6 and cost["perplexity_ratio"] == pytest.approx(1, abs=1e-5)
        assert cost["vocabulary"]["same_where_row"] == 1
    answers = cost["greedy"][0]
    assert set(map(int, answers["exported"].split())) <= set(KEPT.tolist())
    assert answers["given"] != answers["exported"]  # the whole head's


def test_pytorch_with_the_stored_weights_leaves_the_same_out(make_language_model, export, tmp_path):
    model = make_language_model("qwen2 untied")
    graph = tmp_path / export(model, tmp_path, "int8", REDUCED).graph
    hidden = torch.randn(1, 3, 64)
    with torch.inference_mode(), rounded_weights(model, graph, DECODER_PRECISIONS["int8"]):
        rounded = model.lm_head(hidden)[0].numpy()
    with torch.inference_mode():
        whole = model.lm_head(hidden)[0].numpy()
    assert np.isneginf(rounded[:, LEFT_OUT]).all()
    np.testing.assert_allclose(rounded[:, KEPT], whole[:, KEPT], atol=0.05)


def stored(folder, entry, name):
    """A stored tensor's bytes on the disk, to be changed."""
    graph = onnx.load(folder / entry.graph, load_external_data=False).graph
    tensor = next(tensor for tensor in graph.initializer if tensor.name == name)
    place = {item.key: item.value for item in tensor.external_data}
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    return np.memmap(folder / f"{entry.graph}_data", dtype, "r+", int(place["offset"]), tuple(tensor.dims))


def test_logits_in_others_places_are_found(make_language_model, export, tmp_path):
    model = make_language_model()
    entry = export(model, tmp_path, vocabulary=REDUCED)
    ids = stored(tmp_path, entry, TOKEN_IDS)
    ids[[7, 8]] = ids[[8, 7]]
    ids.flush()
    with pytest.raises(ExportError, match="does not compute what PyTorch computes"):
        verify_decoder(model, tmp_path, entry, token_ids=KEPT)


def test_a_token_without_a_row_that_has_a_logit_is_found(make_language_model, export, tmp_path):
    model = make_language_model()
    entry = export(model, tmp_path, vocabulary=REDUCED)
    graph = onnx.load(tmp_path / entry.graph, load_external_data=False)
    fill = next(node for node in graph.graph.node if node.op_type == "ConstantOfShape")
    fill.attribute[0].t.CopyFrom(onnx.numpy_helper.from_array(np.array([-1e4], np.float32)))
    (tmp_path / entry.graph).write_bytes(graph.SerializeToString())
    with pytest.raises(ExportError, match="tokens that its reduced vocabulary leaves out"):
        verify_decoder(model, tmp_path, entry, token_ids=KEPT)


def test_rows_of_other_tokens_are_found(make_language_model, export, tmp_path):
    """The head's stored blocks are compared with the rows of the tokens that were asked for."""
    model = make_language_model()
    entry = export(model, tmp_path, "int8", REDUCED)
    with pytest.raises(ExportError, match="stored of 'lm_head' are not the language model's"):
        verify_decoder(model, tmp_path, entry, token_ids=KEPT + 1)


def test_a_whole_head_is_written_as_before(exported):
    _, folder, entry = exported
    graph = onnx.load(folder / entry.graph, load_external_data=False).graph
    assert entry.vocabulary is None and entry.embedding.tied
    assert not {"ScatterElements", "Expand", "ConstantOfShape"} & {node.op_type for node in graph.node}
    assert TOKEN_IDS not in {tensor.name for tensor in graph.initializer}
