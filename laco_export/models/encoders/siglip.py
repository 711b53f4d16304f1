"""SigLIP (``SiglipVisionModel``): LayerNorm, GELU (tanh), no CLS token, a 27 x 27 grid at 384 px."""

from .specification import EncoderSpec
from .vision_level import placed_under_level, under_level, with_vision_level


def _model_class():
    from transformers import SiglipVisionModel

    return with_vision_level(SiglipVisionModel)


SIGLIP = EncoderSpec(
    model_type="siglip_vision_model",
    model_class=_model_class,
    adopt=lambda encoder: placed_under_level(encoder, _model_class()),
    stored_name=under_level,
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
