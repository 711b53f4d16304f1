"""AIMv2 (``Aimv2VisionModel``): RMSNorm also after the patch embedding, SwiGLU, no CLS token."""

from .specification import EncoderSpec, OriginalLayout


def _model_class():
    from transformers import Aimv2VisionModel

    return Aimv2VisionModel


def _config(original: dict) -> dict:
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_channels")
    names += ("image_size", "patch_size", "rms_norm_eps", "attention_dropout", "qkv_bias")
    values = {name: original[name] for name in names if name in original}
    return {**values, "mlp_bias": original.get("use_bias", False), "use_head": False}


_ORIGINAL = OriginalLayout(  # apple/aimv2-*: "preprocessor" and "trunk"
    model_types=("aimv2",),
    config=_config,
    renames=(
        (r"^preprocessor\.patchifier\.proj\.", "embeddings.patch_embed."),
        (r"^preprocessor\.patchifier\.norm\.", "embeddings.rms_norm."),
        (r"^preprocessor\.pos_embed$", "embeddings.position_embedding.weight"),
        (r"^trunk\.post_trunk_norm\.", "rms_norm."),
        (r"^trunk\.blocks\.(\d+)\.", r"encoder.layers.\1."),
        (r"\.norm_([12])\.", r".rms_norm\1."),
        (r"\.attn\.proj\.", ".attention.out_proj."),
        (r"\.attn\.qkv\.", ".attention.qkv."),
        (r"\.mlp\.fc1\.", ".ffn.gate_proj."),  # SwiGLU: fc2(silu(fc1(x)) * fc3(x))
        (r"\.mlp\.fc3\.", ".ffn.up_proj."),
        (r"\.mlp\.fc2\.", ".ffn.down_proj."),
    ),
    squeezed=("embeddings.position_embedding.weight",),
)

AIMV2 = EncoderSpec(
    model_type="aimv2_vision_model",
    model_class=_model_class,
    embed=lambda encoder, pixel_values: encoder.embeddings(pixel_values),
    blocks="encoder.layers",
    final_norm="rms_norm",
    call_block=lambda block, hidden_states: block(hidden_states, None),
    resize="shortest_edge",
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
    mlp_matrices=3,
    headless={"use_head": False},
    required={"is_native": False},
    skipped=(r"^head\.",),
    original=_ORIGINAL,
)
