"""A few real optimiser steps through HF's Trainer: what a stage trains, what it leaves, and that seeds decide it."""

import json
from random import Random

import pytest
import torch
from PIL import Image

from laco_export.errors import LacoError
from laco_export.models import LacoForConditionalGeneration, LacoProcessor, checkpoint
from laco_training.recipe import StageRecipe
from laco_training.stages import train_stage
from laco_training.trainer import DepthSampler

RATES = {"encoder": 1e-3, "compressor": 1e-3, "projector": 1e-3, "language_model": 1e-3}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    entries = []
    for index in range(16):
        Image.new("RGB", (30 + index, 40), ["red", "green", "blue"][index % 3]).save(folder / f"{index}.png")
        turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "red" * (index % 3 + 1)}]
        entries.append({"id": str(index), "image": f"{index}.png", "conversations": turns})
    (folder / "data.json").write_text(json.dumps(entries))
    return folder


def changed(before, after):
    """Names of the tensors that two checkpoints hold with different values."""
    old, new = (checkpoint.load(folder).model.state_dict() for folder in (before, after))
    return {name for name in old if not torch.equal(old[name], new[name])}


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_stage_1_trains_the_merge_and_the_projector_alone(tiny_checkpoint, data, tmp_path, optimizer):
    rates = {"compressor": 1e-3, "projector": 1e-3}
    stage = StageRecipe("data.json", rates, plain=True, batch_size=4, optimizer=optimizer)
    losses = train_stage(tiny_checkpoint, stage, data, tmp_path / "out", seed=0)
    assert len(losses) == 4
    names = changed(tiny_checkpoint, tmp_path / "out")
    assert names
    assert all(".compressors." in name or name.startswith("projector.") for name in names)
    assert any(".compressors." in name for name in names)
    assert checkpoint.load(tmp_path / "out").model.config.untrained == []


def test_later_stages_train_everything(tiny_checkpoint, data, tmp_path):
    train_stage(tiny_checkpoint, StageRecipe("data.json", RATES, batch_size=4), data, tmp_path / "out", seed=0)
    parts = {
        name.split(".")[1] if name.startswith("vision") else name.split(".")[0]
        for name in changed(tiny_checkpoint, tmp_path / "out")
    }
    assert parts == {"encoder", "compressors", "projector", "language_model"}


def test_the_seed_decides_the_result(tiny_checkpoint, data, tmp_path):
    stage = StageRecipe("data.json", RATES, batch_size=4)
    losses = [
        train_stage(tiny_checkpoint, stage, data, tmp_path / name, seed=seed) for name, seed in zip("abc", (1, 1, 2))
    ]
    assert losses[0] == losses[1] != losses[2]
    assert changed(tmp_path / "a", tmp_path / "b") == set()


@pytest.fixture
def elastic(tiny_checkpoint, tmp_path):
    loaded = checkpoint.load(tiny_checkpoint)
    parts = (loaded.model.vision_model.encoder, loaded.model.language_model)
    model = LacoForConditionalGeneration.from_parts(
        *parts, image_token_id=loaded.processor.image_token_id, at=["1/2", "1"]
    )
    checkpoint.save(model, LacoProcessor.for_model(model, loaded.processor.tokenizer), tmp_path / "elastic")
    return tmp_path / "elastic"


def test_elastic_depth_trains_every_compressor(elastic, data, tmp_path):
    stage = StageRecipe("data.json", RATES, batch_size=2)
    losses = train_stage(elastic, stage, data, tmp_path / "out", seed=0)
    names = changed(elastic, tmp_path / "out")
    for block in (1, 2):
        assert any(f"compressors.block_{block}." in name for name in names)
    again = train_stage(elastic, stage, data, tmp_path / "again", seed=0)
    assert again == losses


def test_the_depth_of_a_step_depends_on_seed_and_step_alone(elastic):
    vision = checkpoint.load(elastic).model.vision_model
    state = type("State", (), {})()
    drawn = []
    for step in range(40):
        state.global_step = step
        DepthSampler(vision, seed=3).on_step_begin(None, state, None)
        drawn.append(vision.block)
    assert drawn == [Random(f"3 depth {step}").choice((1, 2)) for step in range(40)]
    assert 8 < drawn.count(1) < 32


def test_too_few_samples(tiny_checkpoint, data, tmp_path):
    with pytest.raises(LacoError, match=r"does not fill one batch(.|\n)*16 samples, batch_size 32"):
        train_stage(tiny_checkpoint, StageRecipe("data.json", RATES), data, tmp_path / "out", seed=0)
    assert not (tmp_path / "out").exists()
