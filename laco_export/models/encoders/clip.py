"""CLIP (``CLIPVisionModel``): LayerNorm before the first block, quick GELU, one CLS token; no norm at the end.

transformers applies ``post_layernorm`` to the pooled CLS token only; the patch features are the last block's. LLaVA
takes the last block but one: ``feature_layer: -2``.
"""

from .specification import EncoderSpec


def _model_class():
    from transformers import CLIPVisionModel

    return CLIPVisionModel


def _embed(encoder, pixel_values):
    return encoder.vision_model.pre_layrnorm(encoder.vision_model.embeddings(pixel_values))


CLIP = EncoderSpec(
    model_type="clip_vision_model",
    model_class=_model_class,
    embed=_embed,
    blocks="vision_model.encoder.layers",
    final_norm=None,
    call_block=lambda block, hidden_states: block(hidden_states, None, None)[0],
    resize="shortest_edge",
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
    prefix_tokens=1,
    skipped=(r"^text_model\.", r"_projection\.weight$", r"^logit_scale$", r"position_ids$"),
)
