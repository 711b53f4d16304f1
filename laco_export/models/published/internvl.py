"""InternVL 2.5 and 3: as transformers saves it, and in OpenGVLab's own layout, whose remote code is never run.

Outside the encoder its pixel-shuffle puts each window of tokens side by side (``projector_window``); the last tile of a
picture of several is the whole picture; ``<img>`` and ``</img>`` stand around each picture's tokens.
"""

from __future__ import annotations

from pathlib import Path

from ... import weight_files
from ...chat_format import ChatFormat
from ...errors import CheckpointError
from ..encoders.loading import recognise
from ..stated_config import refuse_unread
from .llava import TRANSFORMERS_KEYS, image_token_id_of
from .specification import (
    KeyMap,
    PublishedLayout,
    PublishedModel,
    preprocessing_of,
    require_value,
    section,
    stated_preprocessor,
    text_config_of,
)

_IMAGE_TOKEN = "<IMG_CONTEXT>"
_FRAMES = {"frame_before": "Frame{number}: ", "frame_between": "\n"}  # as in transformers' InternVLProcessor
_WRAPPERS = {"image_before": "<img>", "image_after": "</img>"}
_SYSTEM_LINES = {
    "internvl2_5": (
        "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"
    )
}
"""The system line of each ``template`` (OpenGVLab's ``conversation.py``) whose turns are ChatML; 3 has 2.5's."""

_READ = {
    *("vision_config", "text_config", "image_token_id", "image_token_index", "downsample_ratio"),
    *("projector_hidden_act", "vision_feature_layer", "vision_feature_select_strategy"),
}
_HARMLESS = {"image_seq_length", "tie_word_embeddings", "hidden_size", "pad_token_id", "vocab_size"}

_ORIGINAL_KEYS = KeyMap(
    tower=r"^vision_model\.",
    renames=(
        (r"^mlp1\.0\.", "projector.norm."),
        (r"^mlp1\.1\.", "projector.linear_1."),
        (r"^mlp1\.3\.", "projector.linear_2."),
    ),
)
_ORIGINAL_READ = {
    *("vision_config", "llm_config", "downsample_ratio", "dynamic_image_size", "force_image_size"),
    *("max_dynamic_patch", "min_dynamic_patch", "pad2square", "ps_version", "select_layer", "template"),
    *("use_thumbnail", "system_message", "use_backbone_lora", "use_llm_lora", "tie_word_embeddings"),
}
_ORIGINAL_HARMLESS = {"auto_map", "hidden_size", "output_attentions", "pad_token_id"}


def _describe(values: dict, folder: Path) -> PublishedModel:
    refuse_unread(values, folder, read=_READ, harmless=_HARMLESS)
    require_value(folder, values, "vision_feature_layer", -1, why="features of another block than the last")
    require_value(folder, values, "vision_feature_select_strategy", "default", why="the CLS token among the features")
    vision = {"model_type": "internvl_vision", **section(values, "vision_config", folder)}
    spec, vision_config, encoder = recognise(folder, vision)
    prepared = stated_preprocessor(folder)
    tiles = {"min": prepared.get("min_patches", 1), "max": prepared.get("max_patches", 12)}
    text_config, remarks = text_config_of(section(values, "text_config", folder), folder, default="qwen2")
    return PublishedModel(
        name="InternVL",
        spec=spec,
        vision_config=vision_config,
        text_config=text_config,
        remarks=remarks,
        fields={
            **_fields(folder, values, spec.image_size(vision_config)[0], tiles),
            "projector_act": values.get("projector_hidden_act", "gelu"),
        },
        preprocessing=preprocessing_of(folder, spec, vision_config),
        key_map=KeyMap(TRANSFORMERS_KEYS.tower, TRANSFORMERS_KEYS.renames, encoder=encoder),
        image_token_id=image_token_id_of(values, folder),
        pictures={**_wrappers(folder), **_FRAMES},
    )


def _describe_original(values: dict, folder: Path) -> PublishedModel:
    refuse_unread(values, folder, read=_ORIGINAL_READ, harmless=_ORIGINAL_HARMLESS)
    for name, why in (("use_backbone_lora", "LoRA layers in the encoder"), ("use_llm_lora", "LoRA layers in the LLM")):
        require_value(folder, values, name, 0, why=why)
    require_value(folder, values, "ps_version", "v2", why="a pixel shuffle that leaves pictures transposed")
    require_value(folder, values, "pad2square", False, why="pictures padded to squares")
    layer = values.get("select_layer", -1)
    vision_values = section(values, "vision_config", folder)
    spec, vision_config, encoder = recognise(folder, {"model_type": "intern_vit_6b", **vision_values})
    side = spec.image_size(vision_config)[0]
    require_value(folder, values, "force_image_size", side, None, why="positions stretched to another size")
    dynamic = values.get("dynamic_image_size", False)
    if dynamic:
        require_value(folder, values, "use_thumbnail", True, why="tiles without the whole picture")
    tiles = {"min": values.get("min_dynamic_patch", 1), "max": values.get("max_dynamic_patch", 6) if dynamic else 1}
    text_values = {"tie_word_embeddings": False, **section(values, "llm_config", folder)}
    text_values.pop("auto_map", None)
    fields = _fields(folder, values, side, tiles)
    if layer != -1:
        fields["feature_layer"] = layer
    text_config, remarks = text_config_of(text_values, folder, default="qwen2")
    return PublishedModel(
        name="InternVL",
        spec=spec,
        vision_config=vision_config,
        text_config=text_config,
        remarks=remarks,
        fields=fields,
        preprocessing=spec.preprocessing(vision_config),
        key_map=KeyMap(_ORIGINAL_KEYS.tower, _ORIGINAL_KEYS.renames, encoder=encoder),
        image_token=_IMAGE_TOKEN,
        pictures={**_WRAPPERS, **_FRAMES},
        chat_format=_original_format(values, folder),
    )


def _fields(folder: Path, values: dict, tile: int, tiles: dict) -> dict:
    """Fields of the LaCo configuration.

    Args:
        tile: side of the encoder's input in pixels.
        tiles: the fewest (``min``) and the most (``max``) tiles of a picture.
    """
    ratio = values.get("downsample_ratio", 0.5)
    window = round(1 / ratio) if isinstance(ratio, (int, float)) and ratio > 0 else 0
    if window < 1 or abs(window * ratio - 1) > 1e-6:
        raise CheckpointError(f"'{folder}' has no window of whole tokens", given=f"downsample_ratio {ratio}")
    tiling = {"tile": tile, "rule": "aspect_ratio", "min_tiles": tiles["min"], "max_tiles": tiles["max"]}
    if any(not isinstance(number, int) or number < 1 for number in tiles.values()):
        raise CheckpointError(
            f"'{folder}' cuts its pictures into a number of tiles that is none",
            given=f"at least {tiles['min']!r}, at most {tiles['max']!r}",
            allowed="whole numbers of at least 1",
        )
    return {
        "projector_norm": True,
        "projector_window": window,
        "token_layout": "internvl",
        "tiling": tiling if tiles["max"] > 1 else None,
    }


def _wrappers(folder: Path) -> dict[str, str]:
    """What stands around a picture's tokens, by the tokenizer's own names for it."""
    path = folder / "tokenizer_config.json"
    stated = weight_files.read_json(path) if path.is_file() else {}
    extra = stated.get("extra_special_tokens")
    named = {**(extra if isinstance(extra, dict) else {}), **stated}
    return {
        "image_before": named.get("start_image_token", _WRAPPERS["image_before"]),
        "image_after": named.get("end_image_token", _WRAPPERS["image_after"]),
    }


def _original_format(values: dict, folder: Path) -> ChatFormat:
    """ChatML with the system line that the template's name stands for.

    Raises:
        CheckpointError: a template that is not ChatML, or that is not known.
    """
    template = values.get("template")
    if not isinstance(template, str) or template not in _SYSTEM_LINES:
        raise CheckpointError(
            f"the conversation template of '{folder}' is not known",
            given=f"template {template!r}",
            allowed=", ".join(_SYSTEM_LINES),
        )
    system = values.get("system_message") or _SYSTEM_LINES[template]
    return ChatFormat(default_system=system, image_token=_IMAGE_TOKEN, **_WRAPPERS, **_FRAMES)


INTERNVL = PublishedLayout("internvl", _describe)
INTERNVL_CHAT = PublishedLayout("internvl_chat", _describe_original)
