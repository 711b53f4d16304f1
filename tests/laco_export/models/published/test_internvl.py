"""InternVL in OpenGVLab's own layout: the same model under its names (OpenGVLab's ``modeling_intern_vit.py``)."""

import json
import re
import shutil

import pytest
import torch
from published_folders import change_json
from published_parity import CASES, TOLERANCE, difference
from safetensors.torch import load_file, save_file

from laco_export.conversation import render
from laco_export.errors import CheckpointError
from laco_export.models.published import read_published
from laco_export.models.transformers_versions import rotary_parameters

_TOWER = (
    (r"^vision_tower\.embeddings\.cls_token$", "vision_model.embeddings.class_embedding"),
    (r"^vision_tower\.embeddings\.position_embeddings$", "vision_model.embeddings.position_embedding"),
    (r"^vision_tower\.embeddings\.patch_embeddings\.projection\.", "vision_model.embeddings.patch_embedding."),
    (r"^vision_tower\.encoder\.layer\.", "vision_model.encoder.layers."),
    (r"\.attention\.projection_layer\.", ".attn.proj."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.lambda_([12])$", r".ls\1"),
    (r"^multi_modal_projector\.layer_norm\.", "mlp1.0."),
    (r"^multi_modal_projector\.linear_1\.", "mlp1.1."),
    (r"^multi_modal_projector\.linear_2\.", "mlp1.3."),
)


def own_tensors(stored):
    """Query, key and value as one, and the publisher's names."""
    tensors = {}
    for name, tensor in stored.items():
        if match := re.match(r"vision_tower\.(.*\.)attention\.([qkv])_proj\.(.*)", name):
            block, part, kind = match.groups()
            if part == "q":
                parts = [stored[f"vision_tower.{block}attention.{p}_proj.{kind}"] for p in "qkv"]
                renamed = block.replace("encoder.layer.", "encoder.layers.")
                tensors[f"vision_model.{renamed}attn.qkv.{kind}"] = torch.cat(parts)
            continue
        for pattern, replacement in _TOWER:
            name = re.sub(pattern, replacement, name)
        tensors[name] = tensor.contiguous()
    return tensors


@pytest.fixture
def own(imported, tmp_path):
    """A folder in that layout."""
    theirs, _ = imported("internvl")
    folder = shutil.copytree(theirs.folder, tmp_path / "folder")
    path = folder / "model.safetensors"
    save_file(own_tensors(load_file(path)), path, {"format": "pt"})
    for name in ("preprocessor_config.json", "chat_template.jinja"):
        (folder / name).unlink()
    stated = json.loads((folder / "config.json").read_text())
    vision = stated["vision_config"]
    same = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "layer_norm_eps")
    config = {
        "model_type": "internvl_chat",
        "architectures": ["InternVLChatModel"],
        "auto_map": {"AutoModel": "modeling_internvl_chat.InternVLChatModel"},
        "downsample_ratio": 0.5,
        "dynamic_image_size": True,
        "force_image_size": 56,
        "llm_config": {**stated["text_config"], "architectures": ["Qwen2ForCausalLM"], "moe_config": None},
        "max_dynamic_patch": 6,
        "min_dynamic_patch": 1,
        "pad2square": False,
        "ps_version": "v2",
        "select_layer": -1,
        "system_message": None,
        "template": "internvl2_5",
        "use_backbone_lora": 0,
        "use_llm_lora": 0,
        "use_thumbnail": True,
        "vision_config": {
            "model_type": "intern_vit_6b",
            "image_size": 56,
            "patch_size": 14,
            "qkv_bias": True,
            "qk_normalization": False,
            "norm_type": "layer_norm",
            "hidden_act": "gelu",
            "drop_path_rate": 0.1,
            **{name: vision[name] for name in same},
        },
    }
    (folder / "config.json").write_text(json.dumps(config))
    return theirs, folder


@pytest.mark.parametrize("case", ["text alone", "wide", "tall", "several pictures", "a video", "a batch"])
def test_it_is_the_same_model(own, case):
    theirs, folder = own
    ours = read_published(folder)
    assert difference(theirs, ours.model, ours.processor, CASES[case]) < TOLERANCE


def test_conversations_are_those_of_its_template(own):
    chat_format = read_published(own[1]).processor.chat_format
    text = render([("user", "<image>\nWhat?")], add_generation_prompt=True, chat_format=chat_format)
    assert text.startswith("<|im_start|>system\n你是书生·万象，")
    assert text.endswith("<|im_end|>\n<|im_start|>user\n<image>\nWhat?<|im_end|>\n<|im_start|>assistant\n")
    assert (chat_format.image_before, chat_format.image_after) == ("<img>", "</img>")


@pytest.mark.parametrize("layout", ["transformers", "saved by transformers 5", "OpenGVLab"])
def test_dynamic_positions_are_plain_ones_within_the_context(imported, own, layout):
    """As InternVL3 states them: compared with the class that computes them so."""
    theirs, folder = own
    field = "llm_config"
    if layout != "OpenGVLab":
        folder, field = shutil.copytree(theirs.folder, folder.parent / "transformers"), "text_config"
    base, scaling = {"rope_theta": 10_000.0}, {"factor": 2.0, "rope_type": "dynamic", "type": "dynamic"}
    forms = {"rope_parameters": {**base, **scaling}} if "5" in layout else {**base, "rope_scaling": scaling}
    text = json.loads((folder / "config.json").read_text())[field]
    text = {name: value for name, value in text.items() if not name.startswith("rope_")}
    change_json(folder / "config.json", **{field: text | forms})
    ours = read_published(folder)
    assert rotary_parameters(ours.model.config.text_config) == {**base, "rope_type": "default"}
    assert "rope_scaling dynamic" in ours.remarks[0]
    theirs = type(theirs)(**{**vars(theirs), "model": type(theirs.model).from_pretrained(theirs.folder)})
    rotary, plain = theirs.model.model.language_model.rotary_emb, theirs.model.config.text_config.to_dict()
    plain.pop("rope_parameters", None)
    dynamic = type(theirs.model.config.text_config).from_dict({**plain, **base, "rope_scaling": scaling})
    theirs.model.model.language_model.rotary_emb = type(rotary)(dynamic)
    assert theirs.model.model.language_model.rotary_emb.rope_type == "dynamic"
    assert difference(theirs, ours.model, ours.processor, CASES["wide"]) < TOLERANCE


REFUSED = {
    "transposed pictures": ({"ps_version": "v1"}, "ps_version 'v1'"),
    "an unknown template": ({"template": "phi3-chat"}, "template 'phi3-chat'"),
    "a template that is no name": ({"template": ["internvl2_5"]}, "not known"),
    "a system line that is no text": ({"system_message": 5}, "default_system"),
    "another size than the positions'": ({"force_image_size": 112}, "force_image_size 112"),
    "LoRA layers": ({"use_llm_lora": 16}, "use_llm_lora 16"),
    "tiles without the whole": ({"use_thumbnail": False}, "use_thumbnail False"),
    "InternLM 2": ({"llm_config": {"model_type": "internlm2"}}, "internlm2"),
    "half a window": ({"downsample_ratio": 0.4}, "downsample_ratio 0.4"),
    "an unknown field": ({"new_thing": 1}, "new_thing 1"),
}


@pytest.mark.parametrize("most", [0, "12", 2.5])
def test_a_number_of_tiles_that_is_none_is_refused(copied, most):
    _, folder = copied("internvl")
    change_json(folder / "preprocessor_config.json", max_patches=most)
    with pytest.raises(CheckpointError, match="a number of tiles that is none"):
        read_published(folder)


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_be_another_model_is_refused(own, case):
    _, folder = own
    changes, said = REFUSED[case]
    change_json(folder / "config.json", **changes)
    with pytest.raises(CheckpointError, match=said):
        read_published(folder)
