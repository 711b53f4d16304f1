"""CLIP (``CLIPVisionModel``): LayerNorm before the first block, quick GELU, one CLS token; no norm at the end.

transformers applies ``post_layernorm`` to the pooled CLS token only; the patch features are the last block's. LLaVA
takes the last block but one: ``feature_layer: -2``.
"""

from ..transformers_versions import IS_5
from .specification import EncoderSpec
from .vision_level import placed_under_level, under_level, with_vision_level


def _model_class():
    from transformers import CLIPVisionModel

    return with_vision_level(CLIPVisionModel)


def _embed(encoder, pixel_values):
    return encoder.vision_model.pre_layrnorm(encoder.vision_model.embeddings(pixel_values))


def _call_block(block, hidden_states):
    return block(hidden_states, None) if IS_5 else block(hidden_states, None, None)[0]


CLIP = EncoderSpec(
    model_type="clip_vision_model",
    model_class=_model_class,
    adopt=lambda encoder: placed_under_level(encoder, _model_class()),
    stored_name=under_level,
    embed=_embed,
    blocks="vision_model.encoder.layers",
    final_norm=None,
    call_block=_call_block,
    resize="shortest_edge",
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
    prefix_tokens=1,
    skipped=(r"^text_model\.", r"_projection\.weight$", r"^logit_scale$", r"position_ids$"),
)
