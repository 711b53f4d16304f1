"""The decoders that the decoder's benchmarks write are opened as a bundle's are."""

import numpy as np
import pytest
from decoder_models import open_decoder_at, write

from laco_export.errors import BundleError

from ..conftest import tiny_model

pytest.importorskip("optimum.onnxruntime", reason="needs Optimum, which allows no transformers 5")


@pytest.fixture
def folder(tmp_path):
    """Of the tiny language model in FP32."""
    write(tiny_model().language_model, tmp_path / "fp32", "fp32")
    return tmp_path / "fp32"


def test_it_computes_what_pytorch_computes(folder):
    import torch

    ids = torch.arange(9)[None]
    decoder = open_decoder_at(folder, threads=1)
    embeds = decoder.embedding_table.rows(ids[0].numpy())[None]
    with torch.inference_mode():
        expected = tiny_model().language_model(ids).logits[0, -1].numpy()
        actual = decoder(inputs_embeds=torch.from_numpy(embeds)).logits[0, -1].numpy()
    assert np.abs(actual - expected).max() < 1e-4  # FP32 against FP32: the order of summation


def test_weights_that_change_while_they_are_opened_are_refused(folder, monkeypatch):
    import decoder_models

    bundle = decoder_models.decoder_bundle(folder)
    monkeypatch.setattr(decoder_models, "decoder_bundle", lambda _: bundle)
    weights = folder / "llm" / "model.onnx_data"
    weights.write_bytes(weights.read_bytes()[::-1])
    with pytest.raises(BundleError, match="replaced or changed"):
        open_decoder_at(folder)
