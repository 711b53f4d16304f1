"""Wrong configurations and inputs are refused with what to change."""

import pytest
import torch

from laco_export.errors import ConfigError, DepthError
from laco_export.models import CompressionConfig, LacoConfig, LacoForConditionalGeneration


def test_wrong_number_of_image_tokens(make_model, prompt):
    inputs = prompt(1)
    inputs["input_ids"][0, 2] = 11
    with pytest.raises(ConfigError, match=r"3 image tokens for 1 pictures(.|\n)*4 tokens: 4"):
        make_model()(**inputs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ratio": 5}, r"compression\.ratio"),
        ({"depths": ("2",)}, r"outside \(0, 1\]"),
        ({"depths": ("block:9",)}, "beyond the encoder's last block"),
        ({"depths": ("1/2", "block:2")}, "same block"),
        ({"blocks": (3,)}, "not what compression.depths resolves to"),
        ({"method": "nothing"}, "compression.method is unknown"),
    ],
)
def test_a_wrong_configuration_names_its_field(make_model, changes, message):
    config = make_model().config
    with pytest.raises(
        ConfigError if "depths" not in changes or "1/2" in changes["depths"] else DepthError, match=message
    ):
        LacoForConditionalGeneration(
            LacoConfig(config.vision_config, config.text_config, {**config.compression, "blocks": (), **changes})
        )


def test_an_unknown_encoder_lists_the_known():
    with pytest.raises(
        ConfigError, match=r"vit(.|\n)*aimv2_vision_model, clip_vision_model, internvl_vision, siglip_vision_model"
    ):
        LacoConfig({"model_type": "vit"})


def test_a_grid_smaller_than_the_window(make_encoder, make_model):
    with pytest.raises(ConfigError, match="smaller than the merge window"):
        make_model(make_encoder(image_size=28), ratio=3)


def test_image_tokens_without_pictures(make_model, prompt):
    inputs = prompt(1)
    del inputs["pixel_values"]
    with pytest.raises(ConfigError, match="4 image tokens for 0 pictures"):
        make_model()(**inputs)


@pytest.mark.parametrize("encoder", ["aimv2", "siglip", "internvit", "clip"])
def test_pixels_of_another_size_are_refused(make_encoder, make_model, encoder):
    model = make_model(make_encoder(encoder), method=None)
    for shape in ((1, 3, 70, 70), (1, 1, 56, 56), (1, 1, 3, 56, 56)):
        with pytest.raises(ConfigError, match=r"pixel_values(.|\n)*\[tiles, 3, 56, 56\]"):
            model.get_image_features(torch.zeros(shape))


def test_one_depth_may_be_written_without_a_list():
    assert CompressionConfig(depths="1/2") == CompressionConfig(depths=("1/2",))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"feature_layer": "-2"}, "feature_layer"),
        ({"feature_layer": -5}, "feature_layer"),
        ({"feature_layer": 0}, "feature_layer"),
        ({"video_pooling": "2"}, "video_pooling"),
        ({"image_token_id": -1}, "image_token_id"),
        ({"projector_hidden_size": 0}, "projector_hidden_size"),
        ({"compression": {"mlp_hidden_size": "64"}}, r"compression\.mlp_hidden_size"),
        ({"compression": {"mlp_hidden_size": 0}}, r"compression\.mlp_hidden_size"),
    ],
)
def test_a_field_of_another_kind_is_named(make_model, changes, message):
    config = make_model().config
    with pytest.raises(ConfigError, match=message):
        LacoConfig(config.vision_config, config.text_config, **changes)


def test_an_encoder_with_a_pooling_head_is_refused(make_encoder, make_model):
    encoder = make_encoder("siglip")
    del encoder.config.vision_use_head  # SiglipVisionModel builds the head where the field is missing
    with pytest.raises(ConfigError, match=r"vision_config\.vision_use_head must be False"):
        make_model(encoder)


def test_an_internvit_that_is_not_square_is_refused(make_encoder, make_model):
    encoder = make_encoder("internvit")
    encoder.config.image_size = (56, 84)  # transformers would build it, and fail on the first picture
    with pytest.raises(ConfigError, match=r"vision_config\.image_size of internvl_vision must be square") as error:
        make_model(encoder)
    assert error.value.given == [56, 84]


def test_a_picture_too_many(make_model, prompt):
    inputs = prompt(1)
    inputs["pixel_values"] = inputs["pixel_values"].repeat(2, 1, 1, 1)
    with pytest.raises(ConfigError, match=r"4 image tokens for 2 pictures(.|\n)*8 tokens: 4, 4"):
        make_model()(**inputs)
