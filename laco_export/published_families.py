"""The families of published models that can be imported; of other folders, which they are and why they cannot."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from . import weight_files
from .errors import CheckpointError

PUBLISHED_FAMILIES = {
    "llava": "LLaVA 1.5 (transformers)",
    "llava_next": "LLaVA-NeXT 1.6 (transformers)",
    "llava_onevision": "LLaVA-OneVision (transformers)",
    "llava_qwen": "LLaVA-OneVision (LLaVA-NeXT's own)",
    "internvl": "InternVL 2.5, 3 (transformers)",
    "internvl_chat": "InternVL 2.5, 3 (OpenGVLab)",
}
"""``model_type`` of a ``config.json`` → family and layout."""

_NATIVE_RESOLUTION = (
    *("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen2_5_omni", "glm4v", "glm4v_moe", "kimi_vl"),
    *("pixtral", "mistral3", "ovis2_5"),
)
_OUTSIDE = {
    **dict.fromkeys(("idefics3", "smolvlm"), "a pixel shuffle of 3 or 4 outside the encoder, and one Linear behind it"),
    **dict.fromkeys(("gemma3", "paligemma", "paligemma2"), "a language model of a family that cannot be exported"),
    **dict.fromkeys(("mllama",), "cross attention in place of visual tokens in the prompt"),
    **dict.fromkeys(("blip_2", "instructblip", "minicpmv", "idefics2"), "a resampler in place of a projector"),
}


def read_published_config(folder: Path) -> dict:
    """``config.json`` of a published model's folder with whole weight files by their headers.

    Its ``model_type`` is one of :data:`PUBLISHED_FAMILIES`, also where the publisher's own names a relative.

    Raises:
        CheckpointError: no model of a known family, one of quantised weights, or without whole weight files.
    """
    _refuse_adapters(folder)
    values = weight_files.read_json(folder / "config.json")
    weight_files.refuse_quantised(folder, values)
    weight_files.refuse_many_layers(folder, values)
    model_type = family_of(values)
    if not is_published(values):
        raise _unknown_family(folder, model_type)
    weight_files.find(folder)
    return {**values, "model_type": model_type}


def is_published(values: Mapping) -> bool:
    """Whether a ``config.json`` is of a family that can be imported."""
    family = family_of(values)
    return isinstance(family, str) and family in PUBLISHED_FAMILIES


def family_of(values: Mapping) -> object:
    """``model_type`` of a ``config.json``.

    Published folders of LLaVA's own code say ``llava``, whatever their class: of those it is what the code calls it.
    """
    model_type = values.get("model_type")
    if model_type != "llava" or "mm_vision_tower" not in values:
        return model_type
    architectures = values.get("architectures")
    return "llava_qwen" if architectures == ["LlavaQwenForCausalLM"] else "llava_llama"


def _refuse_adapters(folder: Path) -> None:
    """Refuse the layers of a LoRA run without the model that they belong to.

    Raises:
        CheckpointError: the folder holds them.
    """
    if (folder / "adapter_config.json").is_file():
        raise CheckpointError(
            f"'{folder}' holds LoRA adapters, which are not a model",
            given="adapter_config.json",
            allowed="the model with its adapters merged in",
            todo="load it by peft's PeftModel.from_pretrained, then model.merge_and_unload().save_pretrained(FOLDER), "
            "and save the processor beside it",
        )


def _unknown_family(folder: Path, model_type: object) -> CheckpointError:
    """The error about a folder whose ``model_type`` is none of those that can be imported."""
    reason, todo = "holds a model of a family that is not known", None
    if not isinstance(model_type, str):
        reason = "holds a config.json that names no family"
    elif model_type in _NATIVE_RESOLUTION:
        reason = "holds a model whose encoder takes pictures of any size, with rotary positions: no static graph"
        todo = "choose a model whose encoder has a fixed size, such as LLaVA-OneVision or InternVL3"
    elif model_type in _OUTSIDE:
        reason = f"holds a model of a form that is not supported: {_OUTSIDE[model_type]}"
    elif model_type == "laco":
        reason, todo = "is a LaCo checkpoint already", "give it to laco-train, laco-export or laco-train price"
    elif model_type in ("llava_llama", "llava_mistral", "llava_mixtral"):
        reason = "holds a model as LLaVA's own code saves it, of which only LLaVA-OneVision's are known"
        todo = "take the folder that transformers reads (llava-hf): its config.json says llava or llava_next"
    families = "; ".join(f"{title}: {name}" for name, title in PUBLISHED_FAMILIES.items())
    return CheckpointError(f"'{folder}' {reason}", given=f"model_type {model_type!r}", allowed=families, todo=todo)
