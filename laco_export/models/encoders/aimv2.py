"""AIMv2 (``Aimv2VisionModel``): RMSNorm also after the patch embedding, SwiGLU, no CLS token."""

from .specification import EncoderSpec


def _model_class():
    from transformers import Aimv2VisionModel

    return Aimv2VisionModel


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
    required={"use_head": False},
)
