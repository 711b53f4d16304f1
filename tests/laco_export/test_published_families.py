"""Which family a published folder is of, by its ``config.json`` alone."""

import json

import pytest

from laco_export.errors import CheckpointError
from laco_export.published_families import family_of, is_published, read_published_config
from laco_export.stated_checkpoint import read_stated_checkpoint

OWN_CODE = {"model_type": "llava", "mm_vision_tower": "openai/clip-vit-large-patch14-336"}


@pytest.mark.parametrize(
    ("values", "family"),
    [
        ({"model_type": "llava", "vision_config": {}}, "llava"),
        ({**OWN_CODE, "architectures": ["LlavaQwenForCausalLM"]}, "llava_qwen"),
        ({**OWN_CODE, "architectures": ["LlavaLlamaForCausalLM"]}, "llava_llama"),
        (OWN_CODE, "llava_llama"),
        ({"model_type": ["llava"]}, ["llava"]),
        ({}, None),
    ],
)
def test_a_folder_of_llavas_own_code_is_told_from_transformers(values, family):
    assert family_of(values) == family
    assert is_published(values) == (family in ("llava", "llava_qwen"))


@pytest.mark.parametrize(
    ("model_type", "todo"),
    [("internvl", "laco-train init --from-vlm {folder} --output CKPT"), ("qwen2", None), (["internvl"], None)],
)
def test_a_command_that_needs_a_checkpoint_says_how_to_make_one(tmp_path, model_type, todo):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    with pytest.raises(CheckpointError, match="is not a LaCo checkpoint") as refused:
        read_stated_checkpoint(tmp_path)
    assert (refused.value.todo or "").endswith(todo.format(folder=tmp_path) if todo else "")
    assert bool(refused.value.todo) == bool(todo)


@pytest.mark.parametrize("part", ["text_config", "llm_config", "vision_config"])
def test_a_million_layers_are_refused_in_whichever_part(tmp_path, part):
    values = {"model_type": "internvl_chat", part: {"num_hidden_layers": 1_000_000}}
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match="more layers than any has"):
        read_published_config(tmp_path)
