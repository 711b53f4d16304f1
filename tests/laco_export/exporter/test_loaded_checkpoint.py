"""A checkpoint in memory, a half at a time; what it says of generating answers is refused before minutes are spent."""

import json
import shutil

import pytest
import torch

from laco_export.errors import CheckpointError
from laco_export.exporter.loaded_checkpoint import load_checkpoint
from laco_export.models import checkpoint


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"stop_strings": ["."]}, "stop_strings"),
        ({"max_time": 2.0}, "max_time"),
        ({"repetition_penalty": 0.0}, "repetition_penalty"),
    ],
    ids=str,
)
def test_generation_fields_that_no_bundle_answers_with(tiny_checkpoint, tmp_path, fields, named):
    shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint")
    path = tmp_path / "checkpoint" / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    with pytest.raises(CheckpointError, match=named) as caught:
        load_checkpoint(tmp_path / "checkpoint", "1/2")
    assert "generation_config.json" in str(caught.value)


def test_one_half_is_in_memory_at_a_time(tiny_checkpoint):
    loaded, whole = load_checkpoint(tiny_checkpoint, "1/2"), checkpoint.load(tiny_checkpoint).model
    model = loaded.model
    halves = (model.vision_model, model.projector), (model.language_model,)
    assert [_devices(half) for half in halves] == [{"cpu"}, {"meta"}]
    loaded.let_go_of_tower()
    loaded.take_language_model()
    halves = (model.vision_model, model.projector), (model.language_model,)
    assert [_devices(half) for half in halves] == [{"meta"}, {"cpu"}]
    expected = dict(whole.language_model.state_dict())
    assert expected.keys() == model.language_model.state_dict().keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.language_model.state_dict().items())
    assert model.language_model.config.to_dict() == whole.language_model.config.to_dict()
    assert model.generation_config.to_dict() == whole.generation_config.to_dict()


def _devices(modules) -> set[str]:
    return {parameter.device.type for module in modules for parameter in module.parameters()}


@pytest.mark.parametrize("half", ["take_tower", "take_language_model"])
def test_weights_that_change_while_they_are_exported_are_told(half, tiny_checkpoint, tmp_path):
    folder = tmp_path / "checkpoint"
    shutil.copytree(tiny_checkpoint, folder)
    loaded = load_checkpoint(folder, "1/2")
    getattr(loaded, half)()
    weights = folder / "model.safetensors"
    shutil.copyfile(weights, tmp_path / "same")
    (tmp_path / "same").replace(weights)
    with pytest.raises(CheckpointError, match="changed while they were exported") as error:
        getattr(loaded, half)()
    assert error.value.given == "model.safetensors"
