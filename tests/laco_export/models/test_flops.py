"""Layer arithmetic counts what torch's flop counter counts."""

import pytest
import torch
from published_sizes import qwen2_5_0_5b_config, vision_config
from torch.utils.flop_counter import FlopCounterMode

from laco_export.models.compressors import COMPRESSORS
from laco_export.models.flops import COMPRESSOR_FLOPS, vision_flops


@pytest.mark.parametrize("encoder", ["aimv2", "siglip", "internvit", "clip"])
@pytest.mark.parametrize("method", [None, *COMPRESSORS])
@pytest.mark.parametrize("image_size", [56, 70])
def test_against_torchs_counter(make_encoder, make_model, encoder, method, image_size):
    model = make_model(make_encoder(encoder, image_size=image_size), method=method, at="1/4")
    model.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.get_image_features(torch.randn(1, 3, image_size, image_size))
    assert counter.get_total_flops() == pytest.approx(vision_flops(model.config).total, rel=0.01)


def test_every_compressor_has_its_arithmetic():
    assert set(COMPRESSOR_FLOPS) == set(COMPRESSORS)


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
