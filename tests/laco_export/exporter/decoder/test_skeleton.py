"""Which language models are taken, and what is refused."""

import pytest

from laco_export.errors import ExportError
from laco_export.exporter.decoder import verify_decoder


def test_an_unsupported_family_is_refused(export, tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2))
    with pytest.raises(ExportError) as caught:
        export(model, tmp_path)
    assert "gpt2" in str(caught.value)
    assert "qwen2, qwen3, llama" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_attention_heads": 8, "num_key_value_heads": 8}, "head_dim 8"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "dynamic"),
        ({"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0}, "sliding window"),
    ],
)
def test_what_the_attention_does_not_take_is_refused(make_language_model, export, tmp_path, changes, words):
    with pytest.raises(ExportError, match=words):
        export(make_language_model(**changes), tmp_path)


def test_scaled_rotary_embeddings_are_in_the_table(make_language_model, export, tmp_path):
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    model = make_language_model("llama", rope_scaling={**scaling, "original_max_position_embeddings": 32})
    assert verify_decoder(model, tmp_path, export(model, tmp_path))["cached"]["cosine"] > 0.99999
