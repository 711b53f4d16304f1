"""Wrong configurations are refused with what to change."""

import json

import pytest

from laco_export.errors import ConfigError, DepthError, LacoError
from laco_export.merge_path import MergePath
from laco_export.models import CompressionConfig, LacoConfig, LacoForConditionalGeneration


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


def test_one_merge_is_written_as_ever(make_model):
    assert make_model(at="0.5", ratio="2").config.compression == {
        "method": "laco",
        "depths": ("1/2",),
        "blocks": (2,),
        "ratio": 2,
        "mlp_hidden_size": None,
        "merge_before_final_norm": False,
    }


def test_paths_are_written_and_read_again(make_model):
    config = make_model(at=["1/4", "1/4+3/4"], ratio=[4, "2+2"]).config
    written = json.loads(config.to_json_string())["compression"]
    assert (written["depths"], written["blocks"]) == (["1/4", "1/4+3/4"], [1, [1, 3]])
    assert written["ratio"] == [4, 2]
    again = LacoConfig(config.vision_config, config.text_config, written)
    assert again.compression == config.compression
    assert again.compression_config.paths == (MergePath((1,), (4,)), MergePath((1, 3), (2, 2)))
    assert again.token_grid == (1, 1)


def test_paths_may_leave_different_tokens(make_model):
    model = make_model(at=["1/2", "1/4+3/4"])
    assert model.config.token_grids == {"1/2": (2, 2), "1/4+3/4": (1, 1)}
    assert model.token_grid == model.config.token_grid == (2, 2)
    model.set_depth("1/4+3/4")
    assert model.token_grid == (1, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depths": ["3/4+1/4"]}, "a later block than the one before it"),
        ({"depths": ["1/4+3/4"], "ratio": "4+2"}, "merge 2 of a path has no whole window"),
        ({"depths": ["1/4+3/4", "block:1+block:3"]}, "same block or blocks"),
        ({"depths": ["1/4+3/4"], "blocks": [[1, 2]]}, "not what compression.depths resolves to"),
        ({"depths": ["1/2"], "ratio": "2+2"}, "compression.ratio has not one number for each merge"),
    ],
)
def test_a_path_that_cannot_be_is_refused(make_model, changes, message):
    config = make_model().config
    with pytest.raises(LacoError, match=message):
        LacoConfig(config.vision_config, config.text_config, changes)
