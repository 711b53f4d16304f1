"""InternViT (``InternVLVisionModel``): LayerNorm with LayerScale, GELU, one CLS token in front."""

from ..transformers_versions import IS_5
from .specification import EncoderSpec, OriginalLayout


def _model_class():
    from transformers import InternVLVisionModel

    return InternVLVisionModel


def _config(original: dict) -> dict:
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_channels")
    names += ("image_size", "patch_size", "layer_norm_eps", "norm_type", "hidden_act", "attention_dropout")
    values = {name: original[name] for name in names if name in original}
    for size in ("image_size", "patch_size"):
        values[size] = [values[size]] * 2 if isinstance(values[size], int) else values[size]
    values["attention_bias"] = original.get("qkv_bias", True)
    values["use_qk_norm"] = original.get("qk_normalization", False)
    # The features are the last block's: InternVL takes them without a final norm.
    return {**values, "use_absolute_position_embeddings": True, "use_mean_pooling": True}


_ORIGINAL = OriginalLayout(  # OpenGVLab/InternViT-*: remote code, which is never run here
    model_types=("intern_vit_6b", "intern_vit"),
    config=_config,
    renames=(
        (r"^embeddings\.class_embedding$", "embeddings.cls_token"),
        (r"^embeddings\.position_embedding$", "embeddings.position_embeddings"),
        (r"^embeddings\.patch_embedding\.", "embeddings.patch_embeddings.projection."),
        (r"^encoder\.layers\.", "encoder.layer."),
        (r"\.attn\.proj\.", ".attention.projection_layer."),
        (r"\.attn\.", ".attention."),
        (r"\.norm1\.", ".layernorm_before."),
        (r"\.norm2\.", ".layernorm_after."),
        (r"\.ls([12])$", r".lambda_\1"),
    ),
)


def _embed(encoder, pixel_values):
    embeddings = encoder.embeddings(pixel_values)
    return embeddings if IS_5 else embeddings[0]  # 4.57 gives the patch grid with them


INTERNVIT = EncoderSpec(
    model_type="internvl_vision",
    model_class=_model_class,
    embed=_embed,
    blocks="encoder.layer",
    final_norm="layernorm",
    call_block=lambda block, hidden_states: block(hidden_states),
    resize="squash",
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    prefix_tokens=1,
    square_only=True,  # interpolate_pos_encoding takes the stored positions for a square grid, and always runs then
    original=_ORIGINAL,
)
