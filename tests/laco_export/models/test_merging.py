"""Merges put inside a model that has none, and a window outside that they take the place of."""

import pytest
import torch

from laco_export.errors import ConfigError, DepthError
from laco_export.models.merging import fold_window, merge_inside
from laco_export.models.projector import side_by_side

WINDOWED = {"norm": True, "window": 2}


@pytest.fixture
def pixels():
    return torch.randn(2, 3, 56, 56, generator=torch.Generator().manual_seed(3))


def randomise_norm(model):
    for parameter in model.projector.norm.parameters():
        torch.nn.init.normal_(parameter, mean=1.0)


def averaged(tokens):
    """``[B, 16, C]`` on a grid of 4 x 4 to the averages of its windows, ``[B, 4, C]``."""
    return tokens.unflatten(1, (2, 2, 2, 2)).mean((2, 4)).flatten(1, 2)


def test_windows_are_read_row_by_row():
    tokens = torch.arange(16.0).view(1, 16, 1)
    expected = [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    assert side_by_side(tokens, (4, 4), 2).tolist() == [expected]


def test_internvls_own_projector(make_model, pixels):
    """transformers' pixel-shuffle and ``mlp1`` on the same tensors."""
    from transformers import InternVLConfig
    from transformers.models.internvl.modeling_internvl import InternVLModel, InternVLMultiModalProjector

    model = make_model(method=None, projector=WINDOWED)
    randomise_norm(model)
    own = InternVLMultiModalProjector(
        InternVLConfig(vision_config={"hidden_size": 32}, text_config={"model_type": "qwen2", "hidden_size": 32})
    )
    own.load_state_dict({f"layer_{k}" if k[0] == "n" else k: v for k, v in model.projector.state_dict().items()})
    features = model.vision_model(pixels).contiguous()
    shuffled = InternVLModel.pixel_shuffle(None, features.unflatten(1, (4, 4))).flatten(1, 2)
    torch.testing.assert_close(model.get_image_features(pixels), own(shuffled), rtol=0, atol=1e-6)


def test_the_last_merge_gives_the_projected_averages(make_model, pixels):
    model = make_model(method=None)
    merged = merge_inside(model, "1")
    expected = model.projector(averaged(model.vision_model(pixels)), (2, 2))
    torch.testing.assert_close(merged.get_image_features(pixels), expected, rtol=0, atol=1e-6)


def test_nothing_is_copied_and_the_given_model_stays(make_model, pixels):
    model = make_model(method=None)
    before = model.get_image_features(pixels)
    merged = merge_inside(model, ["1/2", "1"])
    assert list(merged.vision_model.compressors) == ["block_2", "block_4"]
    assert merged.config.untrained == ["compressors", "projector"]
    assert merged.vision_model.encoder is model.vision_model.encoder
    assert merged.language_model is model.language_model and merged.projector is model.projector
    assert (merged.tokens_per_image, model.tokens_per_image) == (4, 16)
    assert torch.equal(model.get_image_features(pixels), before)


def test_a_window_outside_is_folded(make_model):
    """Exact where the four tokens of a window are equal, and as many tokens for the language model."""
    model = make_model(method=None, projector=WINDOWED)
    randomise_norm(model)
    merged = merge_inside(model, "1/2")
    assert merged.config.projector_window == 1
    assert merged.tokens_per_image == model.tokens_per_image == 4
    tokens = torch.randn(2, 2, 2, 32)
    equal = tokens.repeat_interleave(2, 1).repeat_interleave(2, 2).flatten(1, 2)  # [B, 16, C]
    expected = model.projector(equal, (4, 4))
    torch.testing.assert_close(merged.projector(tokens.flatten(1, 2), (2, 2)), expected, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(merged.projector(averaged(torch.randn(2, 16, 32)), (2, 2)), expected)


@pytest.mark.parametrize(("window", "ratio", "before"), [(2, 4, 4), (2, "2+2", 4), (4, "2+2", 1)])
def test_a_path_goes_where_whole_windows_were(make_model, pixels, window, ratio, before):
    """Ratios that multiply to the window leave as many tokens, to twice of it a quarter."""
    model = make_model(method=None, projector={**WINDOWED, "window": window})
    merged = merge_inside(model, "1" if ratio == 4 else "block:3+1", ratio=ratio)
    assert (merged.config.projector_window, merged.tokens_per_image, model.tokens_per_image) == (1, 1, before)
    for _, merge in merged.vision_model.all_merges():
        assert not any(parameter.any() for parameter in merge.mlp.linear_2.parameters())
    if ratio == 4:
        whole = model.vision_model(pixels).mean(1, keepdim=True)
        torch.testing.assert_close(merged.get_image_features(pixels), merged.projector(whole, (1, 1)))


def test_a_window_without_a_norm_is_folded(make_model):
    model = make_model(method=None, projector={"window": 2})
    folded = fold_window(model.projector, merge_inside(model, "1").config)
    token = torch.randn(3, 1, 32)
    expected = model.projector(token.expand(3, 16, 32), (4, 4))
    torch.testing.assert_close(folded(token, (1, 1)), expected[:, :1], rtol=1e-5, atol=1e-6)


def test_saved_and_loaded(make_model, pixels, tmp_path):
    merged = merge_inside(make_model(method=None, projector={**WINDOWED, "act": "gelu_new"}), "1/2")
    merged.save_pretrained(tmp_path)
    loaded = type(merged).from_pretrained(tmp_path)
    assert torch.equal(loaded.get_image_features(pixels), merged.get_image_features(pixels))


@pytest.mark.parametrize(
    ("options", "at", "error", "named"),
    [
        ({"method": "laco"}, "1/2", ConfigError, "has merges inside already"),
        ({"method": None}, "block:9", DepthError, "block:1 … block:4"),
        ({"method": None, "projector": {"window": 4}}, "1/2", ConfigError, "projector_window 4"),
        ({"method": None}, "3/4+1/4", DepthError, "a later block than the one before it"),
    ],
)
def test_refused(make_model, options, at, error, named):
    with pytest.raises(error) as refused:
        merge_inside(make_model(**options), at)
    assert named in str(refused.value)


@pytest.mark.parametrize(
    ("projector", "named"), [({"window": 3}, "4 x 4"), ({"act": "xielu"}, "projector_act"), ({"window": 0}, "window")]
)
def test_projectors_that_do_not_fit(make_model, projector, named):
    with pytest.raises(ConfigError, match=named):
        make_model(method=None, projector=projector)
