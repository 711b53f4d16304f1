"""The encoder with the merge inside: equal to transformers' class with compression off, merged where asked."""

import pytest
import torch

from laco_export.errors import DepthError
from laco_export.models.compressors import build_compressor
from laco_export.models.encoders import ENCODERS as ENCODER_SPECS

ENCODERS = ("aimv2", "siglip", "internvit", "clip")


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("image_size", [56, 70])
def test_without_compression_the_features_are_the_encoders_own(make_encoder, make_model, name, image_size):
    encoder = make_encoder(name, image_size=image_size)
    pixels = torch.randn(2, 3, image_size, image_size)
    expected = encoder(pixels).last_hidden_state
    model = make_model(encoder, method=None)
    with torch.no_grad():
        actual = model.vision_model(pixels)
    assert torch.equal(actual, expected[:, model.vision_model.spec.prefix_tokens :])
    assert actual.shape[1] == model.tokens_per_image == (image_size // 14) ** 2


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize(("at", "block"), [("1/12", 1), ("1/4", 1), ("1/2", 2), ("block:3", 3), ("1", 4)])
def test_the_merge_stands_after_its_block(make_encoder, make_model, name, at, block):
    model = make_model(make_encoder(name), at=at).vision_model
    seen = {}
    with torch.no_grad():
        features = model(torch.randn(1, 3, 56, 56), observe=lambda key, value: seen.setdefault(key, value))
    prefix = model.spec.prefix_tokens
    assert features.shape == (1, 4, 32)
    assert list(seen) == model.boundary_names
    for index in range(4):
        tokens = seen[f"encoder.{model.spec.blocks}.{index}"].shape[1] - prefix
        assert tokens == (16 if index < block else 4)
    # What stands at the merge is the compressor of the grid before it.
    before = seen[f"encoder.{model.spec.blocks}.{block - 1}"]
    if block == 4:  # @1 is after the final norm
        before = seen.get(f"encoder.{model.spec.final_norm}", before)
    grid = before[:, prefix:].unflatten(1, (4, 4))
    merged = model.compressors[f"block_{block}"](grid).flatten(1, 2)
    torch.testing.assert_close(seen[f"compressors.block_{block}"][:, prefix:], merged)
    # CLS goes around the merge untouched.
    assert torch.equal(seen[f"compressors.block_{block}"][:, :prefix], before[:, :prefix])


def test_at_1_the_merge_may_stand_before_the_final_norm(make_model):
    after, before = (make_model(at="1", merge_before_final_norm=value).vision_model for value in (False, True))
    assert after.boundary_names[-2:] == ["encoder.rms_norm", "compressors.block_4"]
    assert before.boundary_names[-2:] == ["compressors.block_4", "encoder.rms_norm"]
    before.load_state_dict(after.state_dict())
    pixels = torch.randn(1, 3, 56, 56)
    assert not torch.allclose(after(pixels), before(pixels))


def test_an_odd_grid_is_padded_by_replication(make_encoder, make_model):
    model = make_model(make_encoder(image_size=70), at="1/2", method="average_pool").vision_model  # 5 x 5
    seen = {}
    with torch.no_grad():
        features = model(torch.randn(1, 3, 70, 70), observe=lambda key, value: seen.setdefault(key, value))
    assert features.shape[1] == 9
    grid = seen["encoder.encoder.layers.1"].unflatten(1, (5, 5))
    merged = seen["compressors.block_2"].unflatten(1, (3, 3))
    torch.testing.assert_close(merged[:, 2, 2], grid[:, 4, 4])  # the corner alone, repeated
    torch.testing.assert_close(merged[:, 0, 2], grid[:, 0:2, 4].mean(1))
    torch.testing.assert_close(merged[:, 0, 0], grid[:, 0:2, 0:2].mean((1, 2)))


@pytest.mark.parametrize("name", ENCODERS)
def test_two_merges_are_what_they_are_one_by_one(make_encoder, make_model, name):
    """Blocks and compressors called by hand; 7 x 7 tokens, padded at each merge, with CLS around both."""
    encoder = make_encoder(name, image_size=98)
    model = make_model(encoder, at="1/4+3/4", ratio="2+3").vision_model
    assert model.merged_grid == (2, 2)
    pixels, prefix, seen = torch.randn(2, 3, 98, 98), model.spec.prefix_tokens, {}
    with torch.no_grad():
        features = model(pixels, observe=lambda key, value: seen.setdefault(key, value))
        hidden = model.spec.embed(model.encoder, pixels)
        blocks = model.encoder.get_submodule(model.spec.blocks)
        for index, block in enumerate(blocks, 1):
            hidden = model.spec.call_block(block, hidden)
            if index in (1, 3):
                (height, padded), ratio = {1: ((7, 8), 2), 3: ((4, 6), 3)}[index]
                rows = torch.arange(padded).clamp(max=height - 1)
                grid = hidden[:, prefix:].unflatten(1, (height, height))[:, rows][:, :, rows]
                merge = model.compressors["path_1_3"][f"block_{index}"]
                assert merge.ratio == ratio
                hidden = torch.cat((hidden[:, :prefix], merge(grid).flatten(1, 2)), dim=1)
        if model.final_norm:
            hidden = model.encoder.get_submodule(model.final_norm)(hidden)
    torch.testing.assert_close(features, hidden[:, prefix:], rtol=1e-5, atol=1e-5)
    assert list(seen) == model.boundary_names
    names = [key for key in seen if "compressors" in key]
    assert names == ["compressors.path_1_3.block_1", "compressors.path_1_3.block_3"]
    assert [seen[key].shape[1] - prefix for key in names] == [16, 4]


def test_a_path_may_end_behind_the_final_norm(make_model):
    after, before = (make_model(at="1/2+1", merge_before_final_norm=value).vision_model for value in (False, True))
    first, last = "compressors.path_2_4.block_2", "compressors.path_2_4.block_4"
    layers = [f"encoder.encoder.layers.{index}" for index in range(4)]
    assert after.boundary_names[1:] == [*layers[:2], first, *layers[2:], "encoder.rms_norm", last]
    assert before.boundary_names[1:] == [*layers[:2], first, *layers[2:], last, "encoder.rms_norm"]
    before.load_state_dict(after.state_dict())
    pixels, features = torch.randn(1, 3, 56, 56), []
    for model in (after, before):
        told = []
        features.append(model(pixels, observe=lambda key, _: told.append(key)))  # noqa: B023 - called in this round
        assert told == model.boundary_names
        # The parts before and from the first merge are the whole.
        assert torch.equal(model.from_merge(model.before_merge(pixels)), features[-1])
    assert not torch.allclose(*features)


def test_paths_own_their_merges(make_model):
    """Two paths that merge behind the same block have a compressor each there."""
    model = make_model(at=["1/2", "1/2+1", "block:1+1"], ratio=[4, 2, "2"])
    names = [name for name, _ in model.vision_model.all_merges()]
    assert names == ["block_2", "path_2_4.block_2", "path_2_4.block_4", "path_1_4.block_1", "path_1_4.block_4"]
    stored = {name.rsplit(".mlp", 1)[0] for name in model.vision_model.compressors.state_dict()}
    assert stored == set(names)
    pixels, features = torch.randn(1, 3, 56, 56), []
    for depth, blocks in (("1/2", (2,)), ("block:2+block:4", (2, 4))):
        assert model.set_depth(depth).blocks == blocks
        features.append(model.get_image_features(pixels))
        assert features[-1].shape[1] == model.tokens_per_image == 1
    assert not torch.allclose(*features)
    with pytest.raises(DepthError, match="not trained with a merge at depth 1/4") as refused:
        model.set_depth("1/4+1")
    assert "block:1+1 (block:1+block:4)" in refused.value.allowed


@pytest.mark.parametrize(("height", "width"), [(4, 5), (5, 4), (7, 8)])
@pytest.mark.parametrize("ratio", [2, 3, 4])
def test_each_side_of_a_grid_is_padded_for_itself(make_model, height, width, ratio):
    model = make_model(at="1", method="average_pool", ratio=ratio).vision_model
    model.grid = (height, width)
    grid = torch.randn(height, width, 32)
    merged = model._merge(grid.reshape(1, -1, 32), 0, lambda *_: None)[0]
    rows, columns = model.merged_grid
    assert (rows, columns) == (-(-height // ratio), -(-width // ratio))
    for row in range(rows):
        for column in range(columns):
            y = [min(row * ratio + i, height - 1) for i in range(ratio)]  # the last row and column, again and again
            x = [min(column * ratio + i, width - 1) for i in range(ratio)]
            torch.testing.assert_close(merged[row * columns + column], grid[y][:, x].mean((0, 1)))


@pytest.mark.parametrize("name", ENCODERS)
def test_the_published_preprocessing(make_encoder, make_model, name):
    """The pixels of the image processors that transformers and the publishers give with these encoders."""
    import numpy as np
    from PIL import Image
    from transformers import CLIPImageProcessor, SiglipImageProcessor
    from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    exact = {"height": 56, "width": 56}
    published = {
        "aimv2": CLIPImageProcessor(size={"shortest_edge": 56}, crop_size=exact),
        "clip": CLIPImageProcessor(size={"shortest_edge": 56}, crop_size=exact),
        "siglip": SiglipImageProcessor(size=exact, resample=3),
        "internvit": SiglipImageProcessor(
            size=exact, resample=3, image_mean=IMAGENET_DEFAULT_MEAN, image_std=IMAGENET_DEFAULT_STD
        ),
    }[name]
    model = make_model(make_encoder(name))
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 130, 3), dtype=np.uint8))
    actual = model.vision_model.spec.preprocessing(model.config.vision_config)(image)
    expected = published(image, return_tensors="np")["pixel_values"][0]
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("feature_layer", [-1, -2, 3])
def test_feature_layer_takes_that_blocks_output(make_encoder, make_model, name, feature_layer):
    encoder = make_encoder(name)
    encoder = ENCODER_SPECS[encoder.config.model_type].adopt(encoder)
    pixels = torch.randn(2, 3, 56, 56)
    outputs = []
    blocks = encoder.get_submodule(ENCODER_SPECS[encoder.config.model_type].blocks)
    hooks = [block.register_forward_hook(lambda *call: outputs.append(call[-1])) for block in blocks]
    encoder(pixels)
    for hook in hooks:
        hook.remove()
    hidden_states = [None, *(output[0] if isinstance(output, tuple) else output for output in outputs)]
    model = make_model(encoder, method=None, feature_layer=feature_layer).vision_model
    with torch.no_grad():
        assert torch.equal(model(pixels), hidden_states[feature_layer][:, model.spec.prefix_tokens :])
    merged = make_model(encoder, at="1", feature_layer=feature_layer).vision_model
    assert merged.block == {-1: 4, -2: 3, 3: 3}[feature_layer]
    assert merged(pixels).shape == (2, 4, 32)


def test_27_by_27_tokens_become_196(make_encoder, make_model):
    assert make_model(make_encoder("siglip", image_size=384)).tokens_per_image == 14 * 14


def test_gradients_reach_the_compressor_and_not_a_frozen_encoder(make_model):
    model = make_model(at="1/4").train()
    model.vision_model.encoder.requires_grad_(False)
    model.get_image_features(torch.randn(1, 3, 56, 56)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.vision_model.compressors.parameters())
    assert all(parameter.grad is None for parameter in model.vision_model.encoder.parameters())


def test_compressors_are_initialised_alike_by_both_ways(make_model):
    """from_parts and from_config give the same distribution: torch's default, bounded by 1/sqrt(fan_in)."""
    from laco_export.models import LacoForConditionalGeneration

    for model in (make_model(), LacoForConditionalGeneration(make_model().config)):
        weight = model.vision_model.compressors["block_2"].mlp.linear_1.weight
        bound = weight.shape[1] ** -0.5
        assert 0.9 * bound < weight.abs().max() <= bound


def test_the_registry_builds_what_the_configuration_names(make_model):
    expected = type(build_compressor("pixel_shuffle", 32, ratio=2, mlp_hidden_size=None))
    assert type(make_model(method="pixel_shuffle").vision_model.compressors["block_2"]) is expected
