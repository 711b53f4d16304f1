"""What ``laco-train init`` accepts, ``laco-export`` exports and ``laco-engine run`` answers with.

Encoders, compressors, ratios and families of language models are 216 combinations; 24 of them hold each pair of
any two. What is refused is refused by ``init``, before anyone trains.
"""

import itertools
import json

import pytest
import torch
from PIL import Image

from laco_engines.cli import main as engine
from laco_export.cli import main as export
from laco_export.exportable import SUPPORTED_FAMILIES
from laco_export.merge_path import RATIOS
from laco_export.models.compressors import COMPRESSORS
from laco_export.models.encoders import ENCODERS
from laco_training.init_command import main as init

CHOICES = (tuple(ENCODERS), tuple(COMPRESSORS), RATIOS, SUPPORTED_FAMILIES)
ROWS = [
    (encoder, compressor, RATIOS[(i + j) % len(RATIOS)], SUPPORTED_FAMILIES[(i + 2 * j) % len(SUPPORTED_FAMILIES)])
    for i, encoder in enumerate(ENCODERS)
    for j, compressor in enumerate(COMPRESSORS)
]
ENCODER_SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 56,
    "patch_size": 14,
}
LANGUAGE_MODEL_SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "pad_token_id": None,
}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """``encoder(model_type)``: a folder of that kind with random weights, over 4 x 4 patches."""
    folders = {}

    def write(model_type):
        if model_type not in folders:
            from transformers import CONFIG_MAPPING

            spec = ENCODERS[model_type]
            torch.manual_seed(0)
            model = spec.model_class()(CONFIG_MAPPING[model_type](**ENCODER_SIZES, **spec.headless))
            folders[model_type] = tmp_path_factory.mktemp(model_type)
            model.save_pretrained(folders[model_type])
        return folders[model_type]

    return write


@pytest.fixture(scope="module")
def language_model(tiny_checkpoint, tmp_path_factory):
    """``language_model(family, **fields)``: a folder of that family with random weights and the tiny tokenizer."""
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_checkpoint)
    folders = {}

    def write(family, **fields):
        key = (family, json.dumps(fields))
        if key not in folders:
            config = CONFIG_MAPPING[family](**{**LANGUAGE_MODEL_SIZES, "vocab_size": len(tokenizer), **fields})
            torch.manual_seed(0)
            folders[key] = tmp_path_factory.mktemp(family)
            AutoModelForCausalLM.from_config(config).save_pretrained(folders[key])
            tokenizer.save_pretrained(folders[key])
        return folders[key]

    return write


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "noise.png"
    Image.effect_noise((90, 70), 80).convert("RGB").save(path)
    return path


def test_the_rows_hold_every_pair():
    for first, second in itertools.combinations(range(len(CHOICES)), 2):
        pairs = {(row[first], row[second]) for row in ROWS}
        assert pairs == set(itertools.product(CHOICES[first], CHOICES[second]))


@pytest.mark.parametrize(("kind", "compressor", "ratio", "family"), ROWS, ids=lambda value: str(value))
def test_it_is_exported_and_answers(
    encoder, language_model, picture, tmp_path, capsys, kind, compressor, ratio, family
):
    checkpoint, bundle = tmp_path / "checkpoint", tmp_path / "bundle"
    parts = ["--encoder", str(encoder(kind)), "--llm", str(language_model(family))]
    assert init([*parts, "--compressor", compressor, "--ratio", str(ratio), "--output", str(checkpoint)]) == 0
    assert export(["--model", str(checkpoint), "--output", str(bundle), "--no-compile"]) == 0, capsys.readouterr().err
    capsys.readouterr()
    asked = ["--image", str(picture), "--question", "What is this?", "--max-new-tokens", "3", "--json"]
    assert engine(["run", str(bundle), *asked]) == 0, capsys.readouterr().err
    assert json.loads(capsys.readouterr().out)["token_ids"]


@pytest.mark.parametrize(
    ("family", "fields", "told"),
    [
        ("mistral", {}, "model_type 'mistral'"),
        ("phi3", {}, "model_type 'phi3'"),
        ("gemma2", {}, "model_type 'gemma2'"),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0}, "sliding_window 8"),
        ("llama", {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "rope_type dynamic"),
        ("llama", {"hidden_act": "xielu"}, "hidden_act 'xielu'"),
        ("qwen3", {"hidden_act": "prelu"}, "hidden_act 'prelu'"),
    ],
)
def test_what_cannot_be_exported_is_refused_before_it_is_trained(
    encoder, language_model, tmp_path, capsys, family, fields, told
):
    parts = ["--encoder", str(encoder("clip_vision_model")), "--llm", str(language_model(family, **fields))]
    assert init([*parts, "--output", str(tmp_path / "checkpoint")]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert told in said and "Traceback" not in said
    assert list(tmp_path.iterdir()) == []
