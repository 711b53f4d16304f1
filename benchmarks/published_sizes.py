"""Configurations of the published encoders and language models, for tables, benchmarks and full-size tests.

They are what the published folders' ``config.json`` holds; weights come from those folders, or are random here.
"""

from __future__ import annotations

from transformers import CONFIG_MAPPING, PretrainedConfig

_AIMV2_LARGE = {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 24, "num_attention_heads": 8}
_CLIP_LARGE = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
_SO400M = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "vision_use_head": False,
}

_VISION: dict[str, tuple[str, dict]] = {
    "aimv2-large-patch14-224": ("aimv2_vision_model", {**_AIMV2_LARGE, "image_size": 224, "use_head": False}),
    "aimv2-large-patch14-336": ("aimv2_vision_model", {**_AIMV2_LARGE, "image_size": 336, "use_head": False}),
    "aimv2-large-patch14-448": ("aimv2_vision_model", {**_AIMV2_LARGE, "image_size": 448, "use_head": False}),
    "siglip-so400m-patch14-384": ("siglip_vision_model", {**_SO400M, "image_size": 384, "patch_size": 14}),
    "internvit-300m-448px": (
        "internvl_vision",
        {**_CLIP_LARGE, "image_size": [448, 448], "patch_size": [14, 14], "attention_bias": True},
    ),
    "clip-vit-large-patch14-336": ("clip_vision_model", {**_CLIP_LARGE, "image_size": 336, "patch_size": 14}),
    "aimv2-huge-patch14-336": (
        "aimv2_vision_model",
        {**_AIMV2_LARGE, "hidden_size": 1536, "intermediate_size": 4096, "num_attention_heads": 12}
        | {"image_size": 336, "use_head": False},
    ),
    "aimv2-1B-patch14-336": (
        "aimv2_vision_model",
        {**_AIMV2_LARGE, "hidden_size": 2048, "intermediate_size": 5632, "num_attention_heads": 16}
        | {"image_size": 336, "use_head": False},
    ),
    "siglip2-so400m-patch16-384": ("siglip_vision_model", {**_SO400M, "image_size": 384, "patch_size": 16}),
    "internvit-6b-448px-v2.5": (
        "internvl_vision",
        {
            "hidden_size": 3200,
            "intermediate_size": 12800,
            "num_hidden_layers": 45,
            "num_attention_heads": 25,
            "image_size": [448, 448],
            "patch_size": [14, 14],
            "attention_bias": False,
            "use_qk_norm": True,
            "norm_type": "rms_norm",
        },
    ),
}

VISION_SIZES = tuple(_VISION)
"""The names that :func:`vision_config` takes."""


def vision_config(name: str) -> PretrainedConfig:
    """The configuration of a published encoder."""
    model_type, fields = _VISION[name]
    return CONFIG_MAPPING[model_type](**fields)


def _text(model_type: str, width: int, mlp: int, layers: int, heads: int, kv_heads: int, **fields) -> tuple[str, dict]:
    sizes = {"hidden_size": width, "intermediate_size": mlp, "num_hidden_layers": layers}
    return model_type, {**sizes, "num_attention_heads": heads, "num_key_value_heads": kv_heads, **fields}


_QWEN = {"vocab_size": 151936, "max_position_embeddings": 32768, "rope_theta": 1_000_000.0, "rms_norm_eps": 1e-6}
_QWEN |= {"tie_word_embeddings": True, "bos_token_id": 151643, "eos_token_id": 151645}
_QWEN_UNTIED = {**_QWEN, "tie_word_embeddings": False}
_LLAMA = {"vocab_size": 128256, "max_position_embeddings": 131072, "rope_theta": 500_000.0, "rms_norm_eps": 1e-5}
_LLAMA |= {"tie_word_embeddings": True, "bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009]}
_LLAMA["rope_scaling"] = {
    "rope_type": "llama3",
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}

_LANGUAGE: dict[str, tuple[str, dict]] = {
    "Qwen2.5-0.5B": _text("qwen2", 896, 4864, 24, 14, 2, **_QWEN),
    "Qwen2.5-1.5B": _text("qwen2", 1536, 8960, 28, 12, 2, **_QWEN),
    "Qwen2.5-3B": _text("qwen2", 2048, 11008, 36, 16, 2, **_QWEN),
    "Qwen2.5-7B": _text("qwen2", 3584, 18944, 28, 28, 4, **{**_QWEN_UNTIED, "vocab_size": 152064}),
    "Qwen3-0.6B": _text("qwen3", 1024, 3072, 28, 16, 8, head_dim=128, **_QWEN),
    "Qwen3-1.7B": _text("qwen3", 2048, 6144, 28, 16, 8, head_dim=128, **_QWEN),
    "Qwen3-4B": _text("qwen3", 2560, 9728, 36, 32, 8, head_dim=128, **_QWEN),
    "Qwen3-8B": _text("qwen3", 4096, 12288, 36, 32, 8, head_dim=128, **_QWEN_UNTIED),
    "Llama-3.2-1B": _text("llama", 2048, 8192, 16, 32, 8, head_dim=64, **_LLAMA),
    "Llama-3.2-3B": _text("llama", 3072, 8192, 28, 24, 8, head_dim=128, **_LLAMA),
}

LANGUAGE_SIZES = tuple(_LANGUAGE)
"""The names that :func:`language_config` takes."""


def language_config(name: str) -> PretrainedConfig:
    """The configuration of a published language model."""
    model_type, fields = _LANGUAGE[name]
    return CONFIG_MAPPING[model_type](**fields)


def qwen2_5_0_5b_config() -> PretrainedConfig:
    """The paper's language model."""
    return language_config("Qwen2.5-0.5B")
