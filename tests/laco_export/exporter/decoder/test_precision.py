"""A precision says what it makes of the weights, and takes the bytes that it says."""

from dataclasses import replace

import pytest

from laco_export.exporter.decoder import DECODER_PRECISIONS, bytes_per_weight


def test_an_integer_precision_says_what_stayed_wider(make_language_model, export, tmp_path):
    entry = export(make_language_model(), tmp_path, "int4").quantization
    assert (entry["bits"], entry["block_size"], entry["head_bits"], entry["accuracy_level"]) == (4, 128, 8, 4)
    assert {wider["weights"]: wider["precision"] for wider in entry["kept_wide"]}["head"] == "int8"
    assert all(wider["reason"] for wider in entry["kept_wide"])


@pytest.mark.parametrize("block_size", [32, 128])
@pytest.mark.parametrize("precision", DECODER_PRECISIONS)
def test_a_weight_takes_the_bytes_that_are_asked_of_the_disk(
    make_language_model, export, precision, block_size, tmp_path, monkeypatch
):
    chosen = replace(DECODER_PRECISIONS[precision], block_size=block_size, head_block_size=block_size)
    monkeypatch.setitem(DECODER_PRECISIONS, precision, chosen)
    model = make_language_model(vocab_size=4000, hidden_size=128, intermediate_size=256, num_hidden_layers=1)
    export(model, tmp_path, precision)
    written = (tmp_path / "llm" / "model.onnx_data").stat().st_size / sum(p.numel() for p in model.parameters())
    # Of int4 the layers take half of what the head takes; the file holds the rotary tables too.
    assert 0.85 * bytes_per_weight(precision) < written < 1.04 * bytes_per_weight(precision)
    if precision != "int4":
        assert written == pytest.approx(bytes_per_weight(precision), rel=0.04)
