"""The published sizes give the published facts."""

import pytest
from published_sizes import qwen2_5_0_5b_config, vision_config

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
