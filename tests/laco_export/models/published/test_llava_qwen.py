"""LLaVA-OneVision in LLaVA-NeXT's own layout: the same model under its names (LLaVA-NeXT's ``llava_qwen.py``)."""

import json
import shutil

import pytest
import torch
from published_folders import change_json, rename_tensors
from published_parity import CASES, TOLERANCE, difference

from laco_export.errors import CheckpointError
from laco_export.models.published import read_published


def own_names(name, tensor):
    prefixes = {
        "vision_tower.": "model.vision_tower.vision_tower.",
        "multi_modal_projector.linear_1.": "model.mm_projector.0.",
        "multi_modal_projector.linear_2.": "model.mm_projector.2.",
        "language_model.model.": "model.",
        "image_newline": "model.image_newline",
    }
    prefix = next(prefix for prefix in prefixes if name.startswith(prefix))
    return {prefixes[prefix] + name.removeprefix(prefix): tensor}


@pytest.fixture
def own(imported, tmp_path):
    """A folder in that layout, beside that of its encoder, which has one block more."""
    theirs, _ = imported("llava_onevision")
    folder = shutil.copytree(theirs.folder, tmp_path / "onevision")
    rename_tensors(folder, own_names)
    tower = tmp_path / "siglip-tiny"
    tower.mkdir()
    vision = theirs.model.config.vision_config.to_dict()
    vision["num_hidden_layers"] += 1  # LLaVA-NeXT takes the last out
    (tower / "config.json").write_text(json.dumps(vision))
    for name in ("preprocessor_config.json", "chat_template.jinja"):
        (folder / name).unlink()
    text = json.loads((folder / "config.json").read_text())["text_config"]
    fields = {
        "model_type": "llava_qwen",
        "architectures": ["LlavaQwenForCausalLM"],
        "mm_vision_tower": "google/siglip-tiny",
        "mm_projector_type": "mlp2x_gelu",
        "mm_patch_merge_type": "spatial_unpad",
        "mm_vision_select_layer": -2,
        "mm_vision_select_feature": "patch",
        "mm_hidden_size": 32,
        "mm_resampler_type": None,
        "mm_spatial_pool_mode": "bilinear",
        "mm_tunable_parts": "mm_vision_tower,mm_mlp_adapter,mm_language_model",
        "image_aspect_ratio": "anyres_max_4",
        "image_grid_pinpoints": "(1x1),...,(3x3)",
        "use_mm_proj": True,
        "tokenizer_model_max_length": 32768,
    }
    (folder / "config.json").write_text(json.dumps({**text, **fields}))
    return theirs, folder


@pytest.mark.parametrize("case", ["text alone", "wide", "tall", "several pictures", "a video", "a batch"])
def test_it_is_the_same_model(own, case):
    theirs, folder = own
    ours = read_published(folder)
    assert difference(theirs, ours.model, ours.processor, CASES[case]) < TOLERANCE


def test_folders_as_published_say_llava(own):
    """``lmms-lab/llava-onevision-qwen2-7b-ov`` has these fields, of which LLaVA-NeXT's code reads neither."""
    theirs, folder = own
    change_json(folder / "config.json", model_type="llava", image_token_index=151646)
    ours = read_published(folder)
    assert difference(theirs, ours.model, ours.processor, CASES["wide"]) < TOLERANCE


@pytest.mark.parametrize("architectures", [["LlavaLlamaForCausalLM"], ["LlavaMistralForCausalLM"], None])
def test_another_model_of_the_same_code_is_named(own, architectures):
    _, folder = own
    change_json(folder / "config.json", model_type="llava", architectures=architectures)
    with pytest.raises(CheckpointError) as refused:
        read_published(folder)
    assert refused.match("LLaVA's own code") and "llava-hf" in refused.value.todo


def test_a_picture_s_token_is_added_where_the_tokenizer_has_none(own):
    _, folder = own
    added = json.loads((folder / "tokenizer.json").read_text())
    added["added_tokens"] = [token for token in added["added_tokens"] if token["content"] not in ("<image>", "<video>")]
    (folder / "tokenizer.json").write_text(json.dumps(added))
    change_json(folder / "tokenizer_config.json", added_tokens_decoder=None)
    ours = read_published(folder)
    image = ours.processor.image_token_id
    assert any("new token: <image>" in remark for remark in ours.remarks)
    assert ours.model.config.image_token_id == image == 258
    embedding = ours.model.get_input_embeddings().weight
    torch.testing.assert_close(embedding[image], embedding[:image].mean(0))


REFUSED = {
    "an encoder that is nowhere": ({"mm_vision_tower": "google/nowhere"}, "not known"),
    "newlines in each frame": ({"mm_newline_position": "grid"}, "mm_newline_position 'grid'"),
    "another projector": ({"mm_projector_type": "mlp2x_res2x_gelu"}, "mm_projector_type"),
    "frames of two speeds": ({"add_faster_video": True}, "add_faster_video"),
    "a field that Qwen2 has not": ({"mm_new_thing": 3}, "mm_new_thing 3"),
    "no grids": ({"image_grid_pinpoints": None}, "no grids"),
    "no tiles": ({"image_aspect_ratio": "pad"}, "image_aspect_ratio 'pad'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_computed_so_is_refused(own, case):
    _, folder = own
    changes, said = REFUSED[case]
    change_json(folder / "config.json", **changes)
    with pytest.raises(CheckpointError, match=said):
        read_published(folder)
