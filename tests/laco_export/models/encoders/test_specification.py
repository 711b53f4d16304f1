"""Forms of an encoder that LaCo cannot merge in are refused."""

import pytest

from laco_export.errors import ConfigError


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


@pytest.mark.parametrize(
    ("kind", "field", "value", "allowed"),
    [
        ("siglip", "hidden_act", "mish", "gelu"),
        ("clip", "num_channels", 1, "3"),
        ("internvit", "patch_size", [14, 28], None),
    ],
)
def test_what_could_be_trained_and_not_exported_is_refused(make_encoder, make_model, kind, field, value, allowed):
    encoder = make_encoder(kind)
    setattr(encoder.config, field, value)
    with pytest.raises(ConfigError, match=rf"vision_config\.{field}") as error:
        make_model(encoder)
    assert error.value.given == value
    assert allowed is None or allowed in str(error.value.allowed)
