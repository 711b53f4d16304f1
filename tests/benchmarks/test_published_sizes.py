"""The published sizes give the published facts."""

import pytest
import torch
from published_sizes import language_config, qwen2_5_0_5b_config, vision_config
from transformers import AutoModelForCausalLM

from laco_export.models.encoders import encoder_spec
from laco_export.models.flops import vision_flops


def test_the_ratios_of_aimv2_large_at_336():
    """0.617, 0.425, 0.361, 0.297 without the merge layer (facts of the architecture), 0.620 … 0.303 with it."""
    from laco_export.models import LacoConfig

    config = vision_config("aimv2-large-patch14-336")
    reference = vision_flops(LacoConfig(config, qwen2_5_0_5b_config(), {"depths": ["1"]})).total
    ratios = [
        vision_flops(LacoConfig(config, qwen2_5_0_5b_config(), {"depths": [at]})).total / reference
        for at in ("1/2", "1/4", "1/6", "1/12")
    ]
    assert ratios == pytest.approx([0.620, 0.430, 0.366, 0.303], abs=0.001)


@pytest.mark.parametrize(
    ("encoder", "millions"),
    [  # as their publishers count them (AIMv2's table, SigLIP's and InternViT's model cards), heads apart
        ("aimv2-large-patch14-336", 309),
        ("aimv2-huge-patch14-336", 680),
        ("aimv2-1B-patch14-336", 1234),
        ("siglip2-so400m-patch16-384", 413),
        ("internvit-300m-448px", 304),
        ("internvit-6b-448px-v2.5", 5540),
    ],
)
def test_encoders_have_the_published_parameters(encoder, millions):
    config = vision_config(encoder)
    with torch.device("meta"):
        tower = encoder_spec(config.model_type).model_class()(config)
    assert sum(parameter.numel() for parameter in tower.parameters()) / 1e6 == pytest.approx(millions, rel=0.003)


@pytest.mark.parametrize(
    ("language_model", "billions"),
    [  # the model cards' "number of parameters", the tied head once
        ("Qwen2.5-0.5B", 0.49),
        ("Qwen2.5-1.5B", 1.54),
        ("Qwen2.5-3B", 3.09),
        ("Qwen2.5-7B", 7.61),
        ("Qwen3-0.6B", 0.6),
        ("Qwen3-1.7B", 1.7),
        ("Qwen3-4B", 4.02),
        ("Qwen3-8B", 8.19),
        ("Llama-3.2-1B", 1.24),
        ("Llama-3.2-3B", 3.21),
    ],
)
def test_language_models_have_the_published_parameters(language_model, billions):
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(language_config(language_model))
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e9 == pytest.approx(billions, rel=0.015)
