"""Configurations of the published encoders and of Qwen2.5-0.5B, for tables, benchmarks and full-size tests.

They are what the published folders' ``config.json`` holds; weights come from those folders, or are random here.
"""

from __future__ import annotations

from transformers import CONFIG_MAPPING, PretrainedConfig

_AIMV2_LARGE = {"hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 24, "num_attention_heads": 8}
_CLIP_LARGE = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}

_VISION: dict[str, tuple[str, dict]] = {
    "aimv2-large-patch14-224": ("aimv2_vision_model", {**_AIMV2_LARGE, "image_size": 224, "use_head": False}),
    "aimv2-large-patch14-336": ("aimv2_vision_model", {**_AIMV2_LARGE, "image_size": 336, "use_head": False}),
    "aimv2-large-patch14-448": ("aimv2_vision_model", {**_AIMV2_LARGE, "image_size": 448, "use_head": False}),
    "siglip-so400m-patch14-384": (
        "siglip_vision_model",
        {
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "num_hidden_layers": 27,
            "num_attention_heads": 16,
            "image_size": 384,
            "patch_size": 14,
            "vision_use_head": False,
        },
    ),
    "internvit-300m-448px": (
        "internvl_vision",
        {**_CLIP_LARGE, "image_size": [448, 448], "patch_size": [14, 14], "attention_bias": True},
    ),
    "clip-vit-large-patch14-336": ("clip_vision_model", {**_CLIP_LARGE, "image_size": 336, "patch_size": 14}),
}

VISION_SIZES = tuple(_VISION)
"""The names that :func:`vision_config` takes."""


def vision_config(name: str) -> PretrainedConfig:
    """The configuration of a published encoder."""
    model_type, fields = _VISION[name]
    return CONFIG_MAPPING[model_type](**fields)


def qwen2_5_0_5b_config() -> PretrainedConfig:
    """Qwen2.5-0.5B: 24 layers, 14 heads over 2 KV heads, tied embeddings."""
    return CONFIG_MAPPING["qwen2"](
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        vocab_size=151936,
        max_position_embeddings=32768,
        rope_theta=1_000_000.0,
        rms_norm_eps=1e-6,
        tie_word_embeddings=True,
        bos_token_id=151643,
        eos_token_id=151645,
    )
