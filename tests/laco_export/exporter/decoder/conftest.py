"""Tiny language models of each family, and their exports."""

import pytest

SIZE = {
    "vocab_size": 120,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
}
NAMES = ("qwen2 tied", "qwen2 untied", "qwen3", "llama")


@pytest.fixture(scope="session")
def make_language_model():
    """``make_language_model(name, **changes)``: random weights, the same on every call; biases and norms too."""
    import torch
    from transformers import (
        LlamaConfig,
        LlamaForCausalLM,
        Qwen2Config,
        Qwen2ForCausalLM,
        Qwen3Config,
        Qwen3ForCausalLM,
    )

    families = {
        "qwen2 tied": (Qwen2ForCausalLM, Qwen2Config, {"tie_word_embeddings": True}),
        "qwen2 untied": (Qwen2ForCausalLM, Qwen2Config, {"tie_word_embeddings": False}),
        "qwen3": (Qwen3ForCausalLM, Qwen3Config, {"head_dim": 32}),  # not hidden_size / heads
        "llama": (LlamaForCausalLM, LlamaConfig, {}),
    }

    def make(name="qwen2 tied", **changes):
        torch.manual_seed(0)
        model_class, config_class, options = families[name]
        model = model_class(config_class(**{**SIZE, **options, **changes})).eval()
        with torch.no_grad():  # zero biases and norms of one would hide a lost one
            for parameter_name, parameter in model.named_parameters():
                if "norm" in parameter_name or parameter_name.endswith("bias"):
                    parameter.add_(torch.randn_like(parameter) * 0.2)
        return model

    return make


@pytest.fixture(params=NAMES)
def family(request):
    return request.param


@pytest.fixture(scope="session")
def export():
    """``export(model, folder, precision="fp32", vocabulary=None)``: the manifest's entry."""
    from laco_export.exporter.decoder import export_decoder

    def write(model, folder, precision="fp32", vocabulary=None):
        return export_decoder(
            model,
            image_token_id=9,
            eos_token_ids=[5, 6],
            output_folder=folder,
            precision=precision,
            vocabulary=vocabulary,
        )

    return write


@pytest.fixture(scope="session")
def exported(make_language_model, export, tmp_path_factory):
    """Model, folder and entry of a tied FP32 Qwen2; not to be changed."""
    model, folder = make_language_model(), tmp_path_factory.mktemp("exported")
    return model, folder, export(model, folder)


@pytest.fixture(scope="session")
def text_prompts():
    """Prompts for the tiny models: token ids that repeat, one window to round over and two to judge on."""
    import numpy as np

    from laco_export.exporter.decoder.prompts import DecoderPrompts, _text

    generator = np.random.default_rng(0)
    windows = [_text(generator.integers(0, SIZE["vocab_size"], 100)) for _ in range(6)]
    question = _text(generator.integers(0, SIZE["vocab_size"], 8))
    return DecoderPrompts(
        tuple(windows[:2]), tuple(windows[2:]), (("Which?", question),), lambda ids: " ".join(map(str, ids)), "tokens"
    )


@pytest.fixture(scope="session")
def smollm2(real_part):
    """A real language model with a few of its prompts: ``(model, prompts)``; skipped where the real parts were not
    made. With all of them ``tests/whole/examples/test_real_parts_page.py`` exports it."""
    from dataclasses import replace
    from types import SimpleNamespace

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from laco_export.exporter.decoder import prompts_of

    folder = real_part("smollm2")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    prompts = prompts_of(SimpleNamespace(tokenizer=AutoTokenizer.from_pretrained(folder)), [], -1, [])
    return model, replace(prompts, judged=prompts.judged[:4], greedy=prompts.greedy[:1])
