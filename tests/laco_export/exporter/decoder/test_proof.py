"""The proof: every family and precision computes what PyTorch computes, and a broken decoder is found."""

import json

import numpy as np
import pytest

from laco_export.errors import ExportError
from laco_export.exporter.decoder import proof, verify_decoder


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int4"])
def test_every_family_computes_what_pytorch_computes(make_language_model, export, family, precision, tmp_path):
    model = make_language_model(family)
    report = verify_decoder(model, tmp_path, export(model, tmp_path, precision))
    json.dumps(report)
    assert ("rounding" in report) == (precision in ("int8", "int4"))
    if precision == "fp32":
        for part in ("whole", "cached"):
            assert report[part]["cosine"] > 0.99999
            assert report[part]["norm_ratio"] == pytest.approx(1, abs=1e-5)
            assert report[part]["max_abs"] < 1e-4
            assert report[part]["same_best_token"] == 1


def test_more_bits_lose_less(make_language_model, export, tmp_path):
    model = make_language_model()
    cosines = {}
    for precision in ("int8", "int4"):
        report = verify_decoder(model, tmp_path / precision, export(model, tmp_path / precision, precision))
        cosines[precision] = report["rounding"]["cosine"]
    assert cosines["int4"] < cosines["int8"] - 0.01
    assert cosines["int8"] > 0.99


def damage(folder, decoder, dtype, factor):
    path = folder / f"{decoder.graph}_data"
    data = np.fromfile(path, np.uint8)
    half = len(data) // 8 * 4
    values = data[:half].view(dtype)
    values[:] = (values * factor).astype(dtype)
    data.tofile(path)


@pytest.mark.parametrize("factor", [0.99, 1.02, -1])
def test_wrong_weights_are_found(make_language_model, export, tmp_path, factor):
    model = make_language_model("qwen2 untied")
    decoder = export(model, tmp_path)
    damage(tmp_path, decoder, np.float32, factor)
    with pytest.raises(ExportError, match="does not compute what PyTorch computes"):
        verify_decoder(model, tmp_path, decoder)


def test_a_wrong_quantised_graph_is_found(make_language_model, export, tmp_path, monkeypatch):
    """One that computes with other weights than it stores: blocks of the wrong size."""
    import onnx

    model = make_language_model()
    decoder = export(model, tmp_path, "int4")
    graph = onnx.load(tmp_path / decoder.graph, load_external_data=False)
    for node in graph.graph.node:
        if node.op_type == "MatMulNBits" and "down_proj" in node.name:
            node.input[2] = next(n for n in graph.graph.node if "o_proj" in n.name).input[2]  # others' scales
    (tmp_path / decoder.graph).write_bytes(graph.SerializeToString())
    with pytest.raises(ExportError, match="does not compute what PyTorch computes"):
        verify_decoder(model, tmp_path, decoder)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_wrong_embedding_rows_are_found(make_language_model, export, tmp_path, precision):
    model = make_language_model("qwen2 untied")
    decoder = export(model, tmp_path, precision)
    rows = decoder.embedding.rows
    data = np.memmap(tmp_path / rows.file, rows.dtype, "r+", rows.offset, rows.shape)
    data[:] = data[::-1].copy()
    data.flush()
    with pytest.raises(ExportError, match="embedding rows"):
        verify_decoder(model, tmp_path, decoder)


def test_a_broken_cache_is_found(exported, monkeypatch):
    model, folder, decoder = exported
    run = proof._run

    def forgetful(session, embeds, cache):
        logits, cache = run(session, embeds, cache)
        return logits, {name: np.zeros_like(value) for name, value in cache.items()}

    monkeypatch.setattr(proof, "_run", forgetful)
    with pytest.raises(ExportError, match="with its KV cache"):
        verify_decoder(model, folder, decoder)


def test_the_prompt_holds_embeddings_that_are_no_token(exported):
    model, _, _ = exported
    table = model.get_input_embeddings().weight
    embeds = proof._prompt_embeds(table)
    distances = np.linalg.norm(embeds[0][:, None] - table.detach().numpy()[None], axis=-1).min(1)
    assert (distances[8:16] > 0.1).all()
    assert (distances[:8] == 0).all()
    assert (distances[16:] == 0).all()
