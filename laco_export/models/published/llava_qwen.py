"""LLaVA-OneVision as LLaVA-NeXT's own code saves it (``model_type`` ``llava_qwen``).

Its ``config.json`` is Qwen2's with fields of its own; the encoder's configuration is in another folder, which
``mm_vision_tower`` names: a path, a folder beside this one, or a published encoder that is known here. Its weights, as
they were tuned, are in this folder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ... import weight_files
from ...chat_format import ChatFormat
from ...errors import CheckpointError
from ..encoders.loading import recognise
from .specification import (
    KeyMap,
    PublishedLayout,
    PublishedModel,
    anyres_tiling,
    feature_layer_of,
    require_value,
    text_config_of,
)

_KEYS = KeyMap(
    tower=r"^model\.vision_tower\.vision_tower\.",
    renames=(
        (r"^model\.mm_projector\.0\.", "projector.linear_1."),
        (r"^model\.mm_projector\.2\.", "projector.linear_2."),
        (r"^model\.image_newline$", "image_newline"),
        (r"^model\.", "language_model.model."),
        (r"^lm_head\.", "language_model.lm_head."),
    ),
)

_OWN_FIELDS = {
    *("mm_vision_tower", "mm_projector_type", "mm_patch_merge_type", "mm_vision_select_layer", "image_aspect_ratio"),
    *("mm_vision_select_feature", "image_grid_pinpoints", "mm_newline_position", "mm_spatial_pool_mode"),
    *("mm_use_im_start_end", "mm_use_im_patch_token", "mm_resampler_type", "add_faster_video", "s2"),
}
_TRAINING_FIELDS = {  # what training and loading were told; nothing of what is computed
    *("mm_hidden_size", "mm_projector_lr", "mm_vision_tower_lr", "mm_tunable_parts", "use_mm_proj", "delay_load"),
    *("tokenizer_model_max_length", "tokenizer_padding_side", "image_crop_resolution", "image_split_resolution"),
    *("vision_tower_pretrained", "tune_mm_mlp_adapter", "freeze_mm_mlp_adapter", "unfreeze_mm_vision_tower"),
    *("mm_spatial_pool_stride", "mm_spatial_pool_out_channels", "mm_resampler_location", "faster_token_stride"),
    *("max_num_vid_frames", "vision_config", "tune_mm_vision_resampler", "unfreeze_language_model"),
    *("pos_skipping_range", "use_pos_skipping", "mm_vision_resampler"),
    "image_token_index",  # for other programs: LLaVA-NeXT's own code splits the text at "<image>"
}

_SIGLIP_SO400M = {
    "model_type": "siglip_vision_model",
    **{"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16},
    **{"image_size": 384, "patch_size": 14, "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6},
}
_KNOWN_TOWERS = {"siglip-so400m-patch14-384": _SIGLIP_SO400M}
"""Published encoders by the last part of their name: LLaVA-NeXT's ``SigLipVisionConfig``."""

_IMAGE_TOKEN = "<image>"
_RANGE = re.compile(r"\((\d+)x(\d+)\)")


def _describe(values: dict, folder: Path) -> PublishedModel:
    require_value(folder, values, "mm_projector_type", "mlp2x_gelu", why="another projector than two layers")
    require_value(folder, values, "mm_patch_merge_type", "spatial_unpad", why="tiles without rows that end in newlines")
    require_value(folder, values, "mm_newline_position", "one_token", why="videos with other newlines than one")
    require_value(folder, values, "mm_spatial_pool_mode", "bilinear", why="video frames pooled in another way")
    require_value(folder, values, "mm_vision_select_feature", "patch", why="other tokens than the patches'")
    require_value(folder, values, "mm_resampler_type", None, why="a resampler before the projector")
    for name in ("mm_use_im_start_end", "mm_use_im_patch_token", "add_faster_video", "s2"):
        require_value(folder, values, name, False, why="more than the tower, a projector and newlines")
    spec, vision_config, encoder = recognise(folder, _tower_values(values, folder))
    layer = feature_layer_of(folder, values.get("mm_vision_select_layer", -2))
    if vision_config.model_type == "siglip_vision_model":  # whose last block LLaVA-NeXT takes out, whatever the layer
        vision_config.num_hidden_layers -= 1
        layer = -1
    tile = spec.image_size(vision_config)[0]
    text_values = {name: value for name, value in values.items() if name not in _OWN_FIELDS | _TRAINING_FIELDS}
    text_values["model_type"] = "qwen2"
    text_values["rope_scaling"] = None  # as LlavaQwenForCausalLM has it
    text_config, remarks = text_config_of(text_values, folder, default="qwen2")
    return PublishedModel(
        name="LLaVA-OneVision",
        spec=spec,
        vision_config=vision_config,
        text_config=text_config,
        remarks=remarks,
        fields={
            "feature_layer": layer,
            "token_layout": "llava_onevision",
            "tiling": _tiling(values, folder, tile),
            "video_pooling": 2,  # LLaVA-NeXT's get_2dPool
        },
        preprocessing=spec.preprocessing(vision_config),
        key_map=KeyMap(_KEYS.tower, _KEYS.renames, (*_KEYS.skipped, r"^model\.vision_resampler\."), encoder),
        image_token=_IMAGE_TOKEN,
        chat_format=ChatFormat(image_token=_IMAGE_TOKEN),  # conv_templates["qwen_1_5"]
    )


def _tower_values(values: Mapping, folder: Path) -> dict:
    """The fields of the encoder's own ``config.json``.

    Raises:
        CheckpointError: its folder is not found, and it is none that is known.
    """
    named = values.get("mm_vision_tower")
    if not isinstance(named, str) or not named:
        raise CheckpointError(f"'{folder / 'config.json'}' names no mm_vision_tower", given=named)
    last = named.rstrip("/").rpartition("/")[2]
    for place in (Path(named), folder / named, folder.parent / last):
        if (place / "config.json").is_file():
            return weight_files.read_json(place / "config.json")
    if last in _KNOWN_TOWERS:
        return dict(_KNOWN_TOWERS[last])
    raise CheckpointError(
        f"the encoder that '{folder}' was made of is not known",
        given=f"mm_vision_tower {named!r}",
        allowed=f"a folder with its config.json, also beside '{folder}', or {', '.join(_KNOWN_TOWERS)}",
        todo=f"put the encoder's config.json into '{folder.parent / last}'",
    )


def _tiling(values: Mapping, folder: Path, tile: int) -> dict:
    ratio = str(values.get("image_aspect_ratio"))
    match = re.fullmatch(r"anyres(?:_max_([1-9]\d*))?", ratio)
    if match is None:
        raise CheckpointError(
            f"'{folder}' prepares pictures in a way that is not supported",
            given=f"image_aspect_ratio {ratio!r}",
            allowed="anyres, anyres_max_N",
        )
    stated = values.get("image_grid_pinpoints")
    if isinstance(stated, str) and (ends := _RANGE.findall(stated)):
        (first_across, first_down), (across, down) = (tuple(map(int, end)) for end in (ends[0], ends[-1]))
        # The text is of widths and heights; all from the first to the last are meant.
        sizes = [
            [row * tile, column * tile]
            for column in range(first_across, across + 1)
            for row in range(first_down, down + 1)
        ]
    elif isinstance(stated, list) and all(isinstance(size, list) and len(size) == 2 for size in stated):
        sizes = [[height, width] for width, height in stated]
    else:
        raise CheckpointError(
            f"'{folder}' states no grids of tiles",
            given=f"image_grid_pinpoints {stated!r}",
            allowed="(1x1),...,(6x6), or a list of sizes",
        )
    return anyres_tiling(folder, tile, sizes, int(match[1]) if match[1] else None)


LLAVA_QWEN = PublishedLayout("llava_qwen", _describe)
