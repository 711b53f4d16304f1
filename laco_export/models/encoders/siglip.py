"""SigLIP (``SiglipVisionModel``): LayerNorm, GELU (tanh), no CLS token, a 27 x 27 grid at 384 px."""

from .specification import EncoderSpec


def _model_class():
    from transformers import SiglipVisionModel

    return SiglipVisionModel


SIGLIP = EncoderSpec(
    model_type="siglip_vision_model",
    model_class=_model_class,
    embed=lambda encoder, pixel_values: encoder.vision_model.embeddings(pixel_values),
    blocks="vision_model.encoder.layers",
    final_norm="vision_model.post_layernorm",
    call_block=lambda block, hidden_states: block(hidden_states, None),
    resize="squash",
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    headless={"vision_use_head": False},
    skipped=(r"^text_model\.", r"^vision_model\.head\.", r"^logit_(scale|bias)$", r"position_ids$"),
)
