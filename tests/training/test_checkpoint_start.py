"""A run that starts from a checkpoint."""

import pytest
import torch

from laco_export.errors import ConfigError
from laco_export.models import checkpoint
from laco_training.checkpoint_start import start_from_checkpoint
from laco_training.recipe import CompressionRecipe


def test_merges_are_put_into_a_checkpoint_without_any(make_tiny_model, make_tiny_checkpoint, tmp_path):
    source = make_tiny_checkpoint(make_tiny_model(method=None), tmp_path / "plain")
    start_from_checkpoint(source, CompressionRecipe(at=["1/2", "1"]), tmp_path / "start")
    before, after = (checkpoint.load(path).model for path in (source, tmp_path / "start"))
    assert after.config.compression_config.depths == ("1/2", "1")
    assert all(torch.equal(after.state_dict()[name], tensor) for name, tensor in before.state_dict().items())
    assert checkpoint.load(tmp_path / "start").processor.image_seq_length == 4


def test_a_checkpoint_with_the_recipes_merges_is_taken_as_it_is(tiny_checkpoint, tmp_path):
    start_from_checkpoint(tiny_checkpoint, CompressionRecipe(at=["1/2"]), tmp_path / "start")
    assert checkpoint.load(tmp_path / "start").sha256 == checkpoint.load(tiny_checkpoint).sha256


@pytest.mark.parametrize("other", [{"at": ["1"]}, {"method": None}, {"method": "ldpv2"}, {"ratio": 4}])
def test_other_merges_are_refused(tiny_checkpoint, tmp_path, other):
    with pytest.raises(ConfigError, match=r"other merges than the recipe(.|\n)*method laco, at 1/2"):
        start_from_checkpoint(tiny_checkpoint, CompressionRecipe(**other), tmp_path / "start")
    assert not (tmp_path / "start").exists()
