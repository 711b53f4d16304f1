"""What frozen blocks give is computed once, found by content, and changes no loss."""

import errno

import pytest
import torch

from laco_export.errors import ConfigError
from laco_export.models import checkpoint
from laco_training import frozen_outputs, processes
from laco_training.frozen_outputs import FrozenOutputs, keep_frozen_outputs, weights_digest
from laco_training.recipe import StageRecipe
from laco_training.stages import train_stage


@pytest.fixture
def frozen(make_tiny_model):
    """A model whose encoder is frozen, at two depths."""
    model = make_tiny_model(at=["1/2", "1"]).eval()
    model.vision_model.encoder.requires_grad_(False)
    return model


def pictures(count=3, seed=0):
    return torch.randn(count, 3, 56, 56, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("depth", ["1/2", "1"])
def test_features_are_those_that_are_computed(frozen, tmp_path, depth):
    frozen.set_depth(depth)
    pixels = pictures()
    with torch.no_grad():
        expected = frozen.get_image_features(pixels)
        keeper = keep_frozen_outputs(frozen, tmp_path)
        first, second = frozen.get_image_features(pixels), frozen.get_image_features(pixels)
    torch.testing.assert_close(first, expected, rtol=0, atol=0)
    torch.testing.assert_close(second, expected, rtol=0, atol=0)
    assert (keeper.computed, keeper.read) == (3, 3)


def test_each_depth_keeps_its_own(frozen, tmp_path):
    keeper = keep_frozen_outputs(frozen, tmp_path)
    features = {}
    for depth in ("1/2", "1", "1/2", "1"):
        frozen.set_depth(depth)
        with torch.no_grad():
            features.setdefault(depth, []).append(frozen.get_image_features(pictures()))
    assert (keeper.computed, keeper.read) == (6, 6)
    for once, again in features.values():
        torch.testing.assert_close(once, again, rtol=0, atol=0)


def test_only_pictures_that_are_new_are_computed(frozen, tmp_path):
    keeper = keep_frozen_outputs(frozen, tmp_path)
    with torch.no_grad():
        frozen.get_image_features(pictures(2))
        mixed = torch.cat((pictures(2, seed=1)[:1], pictures(2)))
        features = frozen.get_image_features(mixed)
        frozen.vision_model.keeper = None
        torch.testing.assert_close(features, frozen.get_image_features(mixed), rtol=1e-5, atol=1e-5)
    assert (keeper.computed, keeper.read) == (3, 2)


def test_other_weights_or_another_precision_are_other_outputs(frozen, tmp_path):
    keeper = keep_frozen_outputs(frozen, tmp_path)
    with torch.no_grad():
        frozen.get_image_features(pictures())
        with torch.autocast("cpu", torch.bfloat16):
            frozen.get_image_features(pictures())
        assert keeper.computed == 6
        before = weights_digest(frozen.vision_model)
        frozen.vision_model.encoder.get_submodule(frozen.vision_model.spec.blocks)[0].attention.q_proj.weight[0, 0] += 1
        assert weights_digest(frozen.vision_model) != before
        other = keep_frozen_outputs(frozen, tmp_path)
        frozen.get_image_features(pictures())
    assert (other.computed, other.read) == (3, 0)


def test_a_damaged_entry_is_computed_again(frozen, tmp_path):
    keeper = keep_frozen_outputs(frozen, tmp_path)
    with torch.no_grad():
        expected = frozen.get_image_features(pictures(1))
        (entry,) = tmp_path.rglob("*.safetensors")
        entry.write_bytes(entry.read_bytes()[:-8])
        torch.testing.assert_close(frozen.get_image_features(pictures(1)), expected, rtol=0, atol=0)
    assert (keeper.computed, keeper.read) == (2, 0)
    assert frozen_outputs._read(entry) is not None


def test_a_full_disk_stops_the_keeping_and_not_the_training(frozen, tmp_path, monkeypatch, capsys):
    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    keeper = keep_frozen_outputs(frozen, tmp_path)
    monkeypatch.setattr(frozen_outputs, "write_bytes", full)
    with torch.no_grad():
        first, second = frozen.get_image_features(pictures()), frozen.get_image_features(pictures())
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert (keeper.computed, keeper.read) == (6, 0)
    assert capsys.readouterr().err.count("can no longer be kept") == 1


def test_no_draw_of_dropout_is_kept(frozen, tmp_path):
    frozen.vision_model.encoder.get_submodule(frozen.vision_model.spec.blocks)[0].register_forward_pre_hook(
        lambda module, _: pytest.fail("computed in training mode") if module.training else None
    )
    frozen.train()
    keep_frozen_outputs(frozen, tmp_path)
    frozen.get_image_features(pictures())
    assert frozen.vision_model.encoder.training


def test_a_trained_or_sharded_encoder_is_refused(frozen, tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "shards_weights", lambda: True)
    with pytest.raises(ConfigError, match="DeepSpeed"):
        keep_frozen_outputs(frozen, tmp_path)
    next(frozen.vision_model.encoder.parameters()).requires_grad_(True)
    with pytest.raises(ConfigError, match="frozen encoder"):
        keep_frozen_outputs(frozen, tmp_path)


def test_a_stage_trains_as_without(tiny_checkpoint, stage_data, tmp_path):
    """Three passes over the pictures: the same losses, and every picture is computed once."""
    counted = []
    call = FrozenOutputs.__call__

    def count(keeper, *arguments):
        output = call(keeper, *arguments)
        counted.append((keeper.computed, keeper.read))
        return output

    losses = {}
    for keeps in (False, True):
        recipe = StageRecipe(
            "data.json",
            {"compressor": 1e-3, "projector": 1e-3},
            epochs=3,
            global_batch_size=4,
            per_device_batch_size=2,
            precision="fp32",
            max_length=256,
            keep_frozen_outputs=keeps,
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(FrozenOutputs, "__call__", count)
            losses[keeps] = train_stage(tiny_checkpoint, recipe, stage_data, tmp_path / f"{keeps}", seed=0)
    assert losses[True] == pytest.approx(losses[False], rel=1e-5)
    computed, read = counted[-1]
    entries = list((tmp_path / "frozen-outputs").rglob("*.safetensors"))
    assert len(entries) == computed <= 17 < read  # 16 pictures, and the blank one of a batch without any
    assert checkpoint.load(tmp_path / "True").model.vision_model.keeper is None
