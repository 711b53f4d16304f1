"""Which models are compared, and which cannot be."""

import json
import shutil

import pytest

from laco_export.errors import ConfigError, DepthError, UsageError
from laco_export.models.merging import merge_inside
from laco_training.price.subjects import open_subjects


@pytest.fixture(scope="module")
def merged_checkpoint(whole_model, make_tiny_checkpoint, tmp_path_factory):
    """The same model with merges at 1/2 and 1."""
    model = merge_inside(whole_model(), ["1/2", "1"])
    return make_tiny_checkpoint(model, tmp_path_factory.mktemp("price") / "merged")


def blocks_of(subjects):
    return {at: path.blocks for at, path in subjects.depths.items()}


def test_a_checkpoint_without_merges_is_its_own_reference(whole_checkpoint):
    subjects = open_subjects(whole_checkpoint, None, ["1/2"])
    assert blocks_of(subjects) == {"1/2": (2,)} and not subjects.is_trained
    assert subjects.reference.tokens_per_image == 16 and subjects.merged.tokens_per_image == 4
    assert subjects.reference_processor.image_seq_length == 16 and subjects.at_depth("1/2").image_seq_length == 4
    weight = "vision_model.encoder.vision_model.encoder.layers.0.mlp.fc1.weight"
    assert subjects.reference.get_parameter(weight) is subjects.merged.get_parameter(weight), "nothing stands twice"


def test_depths_by_default(whole_checkpoint, whole_model, make_tiny_checkpoint, merged_checkpoint, tmp_path):
    assert blocks_of(open_subjects(whole_checkpoint, None, [])) == {"1": (4,), "1/2": (2,), "1/4": (1,)}
    assert blocks_of(open_subjects(merged_checkpoint, whole_checkpoint, [])) == {"1/2": (2,), "1": (4,)}


def test_depths_of_a_small_encoder_are_different_blocks(make_tiny_model, make_tiny_checkpoint, tmp_path):
    model = make_tiny_model("siglip", blocks=2, at="1", method=None)
    subjects = open_subjects(make_tiny_checkpoint(model, tmp_path / "two"), None, [])
    assert blocks_of(subjects) == {"1": (2,), "1/2": (1,)}


def test_merges_of_its_own_beside_a_reference(merged_checkpoint, whole_checkpoint):
    subjects = open_subjects(merged_checkpoint, whole_checkpoint, ["1/2"])
    assert subjects.is_trained and blocks_of(subjects) == {"1/2": (2,)}
    assert set(subjects.sha256) == {"checkpoint", "reference"}


def test_paths_and_ratios(whole_checkpoint):
    subjects = open_subjects(whole_checkpoint, None, ["1/4+3/4", "1/2"], ["2", "4"])
    assert {at: path.ratios for at, path in subjects.depths.items()} == {"1/4+3/4": (2, 2), "1/2": (4,)}
    assert subjects.merged.tokens_per_image == 1


def test_a_reference_that_sees_other_pictures(merged_checkpoint, whole_checkpoint, tmp_path):
    folder = shutil.copytree(whole_checkpoint, tmp_path / "other")
    stated = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps({**stated, "image_mean": [0.1, 0.2, 0.3]}))
    with pytest.raises(ConfigError, match="the preprocessing differs"):
        open_subjects(merged_checkpoint, folder, [])


def test_what_cannot_be_compared(merged_checkpoint, whole_checkpoint, tiny_checkpoint):
    with pytest.raises(UsageError, match="whose ratio is settled"):
        open_subjects(merged_checkpoint, whole_checkpoint, [], 2)
    for folder, reference, at, error, message in (
        (merged_checkpoint, None, [], UsageError, "carries merges, and nothing says"),
        (whole_checkpoint, whole_checkpoint, [], UsageError, "merges nothing"),
        (merged_checkpoint, merged_checkpoint, [], UsageError, "carries merges itself"),
        (merged_checkpoint, whole_checkpoint, ["1/4"], DepthError, "was not trained with a merge at depth 1/4"),
        (whole_checkpoint, None, ["block:9"], DepthError, "beyond the encoder's last block"),
        (whole_checkpoint, None, ["1/2", "block:2"], ConfigError, "resolve to the same block"),
        (tiny_checkpoint, whole_checkpoint, [], ConfigError, "different towers"),
    ):
        with pytest.raises(error, match=message):
            open_subjects(folder, reference, at)
