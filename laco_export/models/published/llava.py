"""LLaVA 1.5, LLaVA-NeXT and LLaVA-OneVision as transformers saves them.

Both generations of tensor names are read: those of the hub (``language_model.model.…``) and those of transformers since
4.52 (``model.language_model.…``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ...errors import CheckpointError
from ...layout_rules import layout_rules
from ..encoders.loading import recognise
from ..stated_config import refuse_unread
from .specification import (
    KeyMap,
    PublishedLayout,
    PublishedModel,
    anyres_tiling,
    feature_layer_of,
    preprocessing_of,
    require_value,
    section,
    stated_preprocessor,
    text_config_of,
)

TRANSFORMERS_KEYS = KeyMap(
    tower=r"^(?:model\.)?vision_tower\.",
    renames=(
        (r"^(?:model\.)?multi_modal_projector\.layer_norm\.", "projector.norm."),
        (r"^(?:model\.)?multi_modal_projector\.", "projector."),
        (r"^(?:model\.)?image_newline$", "image_newline"),
        (r"^model\.language_model\.", "language_model.model."),
        (r"^lm_head\.", "language_model.lm_head."),
    ),
)
"""Also InternVL's in transformers."""

_READ = {
    *("vision_config", "text_config", "image_token_index", "image_token_id", "projector_hidden_act"),
    *("multimodal_projector_bias", "vision_feature_layer", "vision_feature_select_strategy", "image_grid_pinpoints"),
    *("vision_aspect_ratio", "use_image_newline_parameter"),
}
_HARMLESS = {  # what transformers' classes of today do not ask for either
    *("ignore_index", "vocab_size", "pad_token_id", "image_seq_length", "video_token_index", "video_token_id"),
    *("tie_word_embeddings", "hidden_size"),
}
_DEFAULT_PINPOINTS = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]  # LlavaNextConfig's
_ANYRES_MAX = re.compile(r"anyres_max_([1-9]\d*)")


def _describe_llava(values: dict, folder: Path) -> PublishedModel:
    return _described(values, folder, name="LLaVA 1.5", tower="clip_vision_model", text="llama", layer=-2)


def _describe_llava_next(values: dict, folder: Path) -> PublishedModel:
    return _described(values, folder, name="LLaVA-NeXT", tower="clip_vision_model", text="llama", layer=-2)


def _describe_llava_onevision(values: dict, folder: Path) -> PublishedModel:
    return _described(values, folder, name="LLaVA-OneVision", tower="siglip_vision_model", text="qwen2", layer=-1)


def _described(values: dict, folder: Path, *, name: str, tower: str, text: str, layer: int) -> PublishedModel:
    """What the three have in common.

    Args:
        tower, text: ``model_type`` of the parts where it is not stated.
        layer: ``vision_feature_layer`` where it is not stated.
    """
    refuse_unread(values, folder, read=_READ, harmless=_HARMLESS)
    require_value(folder, values, "multimodal_projector_bias", True, why="a projector without biases")
    vision_values = {"model_type": tower, **section(values, "vision_config", folder)}
    vision_values.pop("vocab_size", None)  # of CLIP's text tower
    spec, vision_config, encoder = recognise(folder, vision_values)
    strategy = values.get("vision_feature_select_strategy", "full" if tower.startswith("siglip") else "default")
    if strategy != ("default" if spec.prefix_tokens else "full"):
        raise CheckpointError(
            f"'{folder}' takes other tokens of its encoder than the patches'",
            given=f"vision_feature_select_strategy {strategy!r} over {vision_config.model_type}",
            allowed="'default' where the encoder has a CLS token, else 'full'",
        )
    fields = {
        "feature_layer": feature_layer_of(folder, values.get("vision_feature_layer", layer)),
        "projector_act": values.get("projector_hidden_act", "gelu"),
        "token_layout": values["model_type"],
    }
    if values["model_type"] != "llava":
        fields["tiling"] = _tiling(values, folder, spec.image_size(vision_config)[0])
    if values["model_type"] == "llava_onevision":
        fields["video_pooling"] = 2  # transformers' apply_pooling
    text_config, remarks = text_config_of(section(values, "text_config", folder), folder, default=text)
    return PublishedModel(
        name=name,
        spec=spec,
        vision_config=vision_config,
        text_config=text_config,
        remarks=remarks,
        fields=fields,
        preprocessing=preprocessing_of(
            folder, spec, vision_config, always_tiles=layout_rules(values["model_type"]).tiles_each
        ),
        key_map=KeyMap(TRANSFORMERS_KEYS.tower, TRANSFORMERS_KEYS.renames, encoder=encoder),
        image_token_id=image_token_id_of(values, folder),
    )


def image_token_id_of(values: Mapping, folder: Path) -> int:
    """The id that stands for a picture's embeddings.

    Raises:
        CheckpointError: the configuration states none.
    """
    stated = values.get("image_token_id", values.get("image_token_index"))
    if not isinstance(stated, int):
        raise CheckpointError(f"'{folder / 'config.json'}' states no image_token_index", given=stated)
    return stated


def _tiling(values: Mapping, folder: Path, tile: int) -> dict:
    require_value(folder, values, "use_image_newline_parameter", True, why="pictures without a newline's embedding")
    pinpoints = values.get("image_grid_pinpoints")
    if pinpoints is None and values["model_type"] == "llava_next":
        pinpoints = _DEFAULT_PINPOINTS
    prepared = stated_preprocessor(folder).get("image_grid_pinpoints", pinpoints)
    if pinpoints is None or prepared != pinpoints:
        raise CheckpointError(
            f"'{folder}' states two sets of image_grid_pinpoints, or none",
            given=f"{pinpoints} in config.json, {prepared} for its image processor",
            allowed="one",
        )
    if values["model_type"] == "llava_next":
        return anyres_tiling(folder, tile, pinpoints, None)
    ratio = values.get("vision_aspect_ratio", "anyres_max_9")
    match = _ANYRES_MAX.fullmatch(str(ratio))
    if match is None:
        raise CheckpointError(
            f"'{folder}' tiles pictures in a way that is not supported",
            given=f"vision_aspect_ratio {ratio!r}",
            allowed="anyres_max_N",
        )
    return anyres_tiling(folder, tile, pinpoints, int(match[1]))


LLAVA = PublishedLayout("llava", _describe_llava)
LLAVA_NEXT = PublishedLayout("llava_next", _describe_llava_next)
LLAVA_ONEVISION = PublishedLayout("llava_onevision", _describe_llava_onevision)
