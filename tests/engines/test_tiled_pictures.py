"""A bundle of a model that tiles pictures answers what PyTorch answers."""

import numpy as np
import pytest
import torch
from PIL import Image

from laco_engines.answering import Answerer
from laco_export.bundle import open_bundle
from laco_export.conversation import question_turn, render
from laco_export.exporter.options import ExportOptions
from laco_export.exporter.pipeline import export_bundle
from laco_export.models import checkpoint


@pytest.fixture(scope="module")
def answerer(tiled_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiled")
    checkpoint.save(*tiled_model, folder / "tiny")
    options = ExportOptions(folder / "tiny", precision="fp32", output=folder / "bundle", compile=False)
    return Answerer(open_bundle(export_bundle(options).output))


@pytest.mark.parametrize(
    "sizes", [[(200, 60)], [(50, 170)], [(300, 290)], [(56, 56)], [(7, 400)], [(200, 60), (50, 90)]]
)
def test_the_same_tokens_as_pytorch(answerer, tiled_model, sizes):
    model, processor = tiled_model
    rng = np.random.default_rng(sum(map(sum, sizes)))
    pictures = [Image.fromarray(rng.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in sizes]
    prompt = render([question_turn("what is it?", len(pictures))], add_generation_prompt=True)
    inputs = processor(images=pictures, text=prompt, return_tensors="pt")
    with torch.no_grad():
        expected = model.generate(**inputs, max_new_tokens=12, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    actual = answerer.answer(pictures, "what is it?", max_new_tokens=12)
    assert actual.prompt_tokens == inputs["input_ids"].shape[1]
    assert actual.token_ids == expected.tolist()[: len(actual.token_ids)]
    assert len(actual.token_ids) >= len(expected) or actual.finish == "stop"
    np.testing.assert_allclose(
        answerer.prompter.prepare(pictures, "what is it?").pixel_values, inputs["pixel_values"].numpy(), rtol=0, atol=0
    )
