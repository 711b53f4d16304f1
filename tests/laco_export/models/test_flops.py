"""Layer arithmetic counts what torch's flop counter counts."""

import pytest
import torch
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


@pytest.mark.parametrize("encoder", ["aimv2", "internvit"])
@pytest.mark.parametrize("method", ["laco", "ldpv2", "token_packer"])
def test_a_path_against_torchs_counter(make_encoder, make_model, encoder, method):
    """9 x 9 tokens, padded at both merges."""
    model = make_model(make_encoder(encoder, image_size=126), method=method, at=["1/4+3/4", "1/2+1"], ratio="2+3")
    model.set_attn_implementation("eager")
    for depth in ("1/2+1", "1/4+3/4"):
        path = model.set_depth(depth)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model.get_image_features(torch.randn(1, 3, 126, 126))
        assert counter.get_total_flops() == pytest.approx(vision_flops(model.config, path=path).total, rel=0.01)
    assert vision_flops(model.config) == vision_flops(model.config, path=path)  # the first that is carried


def test_a_projector_that_reads_windows(make_model):
    model = make_model(method=None, projector={"norm": True, "window": 2})
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.projector(torch.randn(1, 16, 32), (4, 4))
    assert counter.get_total_flops() == vision_flops(model.config).projector


def test_every_compressor_has_its_arithmetic():
    assert set(COMPRESSOR_FLOPS) == set(COMPRESSORS)
