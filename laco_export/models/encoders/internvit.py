"""InternViT (``InternVLVisionModel``): LayerNorm with LayerScale, GELU, one CLS token in front."""

from .specification import EncoderSpec


def _model_class():
    from transformers import InternVLVisionModel

    return InternVLVisionModel


INTERNVIT = EncoderSpec(
    model_type="internvl_vision",
    model_class=_model_class,
    embed=lambda encoder, pixel_values: encoder.embeddings(pixel_values)[0],
    blocks="encoder.layer",
    final_norm="layernorm",
    call_block=lambda block, hidden_states: block(hidden_states),
    resize="squash",
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    prefix_tokens=1,
)
