"""From a language model as it comes to a bundle that answers: ``init``, ``laco-export``, ``laco-engine run``."""

import json
from types import SimpleNamespace

import pytest
from PIL import Image

from laco_engines.cli import main as engine
from laco_export.cli import main as export
from laco_export.models import checkpoint
from laco_training.init_command import main as init

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.fixture(scope="module", params=["smollm2", "qwen2.5-coder"])
def made(request, real_part, tmp_path_factory):
    """A checkpoint of the real encoder and a real language model, and its bundle."""
    folder = tmp_path_factory.mktemp(request.param)
    start, bundle = folder / "start", folder / "bundle"
    encoder = str(real_part("encoder") / "224")
    assert init(["--encoder", encoder, "--llm", str(real_part(request.param)), "--output", str(start)]) == 0
    options = ["--at", "1/2", "--fp16", "--llm", "fp32", "--no-compile", "--output", str(bundle)]
    assert export(["--model", str(start), *options]) == 0
    return SimpleNamespace(start=start, bundle=bundle)


def test_what_the_bundle_relies_on(made):
    loaded = checkpoint.load(made.start)
    tokenizer, decoder = loaded.processor.tokenizer, json.loads((made.bundle / "laco.json").read_text())["decoder"]
    assert decoder["image_token_id"] == loaded.model.config.image_token_id == loaded.processor.image_token_id
    assert decoder["vocab_size"] == loaded.model.config.text_config.vocab_size >= len(tokenizer)
    assert decoder["eos_token_ids"][0] == tokenizer.eos_token_id == tokenizer.convert_tokens_to_ids("<|im_end|>")
    written = json.loads((made.bundle / "llm" / "generation_config.json").read_text())
    assert written["pad_token_id"] == tokenizer.pad_token_id
    assert written["eos_token_id"] == decoder["eos_token_ids"]


def test_the_capital_of_france(made, capfd):
    assert engine(["run", str(made.bundle), "--question", "What is the capital of France?"]) == 0
    assert "Paris" in capfd.readouterr().out


def test_a_picture_is_answered_to(made, tmp_path, capfd):
    """Something: the projector is untrained."""
    Image.effect_mandelbrot((320, 240), (-2, -1.2, 1, 1.2), 50).save(tmp_path / "picture.png")
    options = ["--image", str(tmp_path / "picture.png"), "--max-new-tokens", "8"]
    assert engine(["run", str(made.bundle), "--question", "What is this?", *options]) == 0
    assert capfd.readouterr().out.strip()
