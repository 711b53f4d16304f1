"""Faults planted into a copy of the engines: ``laco-engine diff`` and ``laco-export`` refuse, and name the part."""

import pytest
from planted_source import Edit, plant
from source_tree import ROOT

TINY_CHECKPOINT = ROOT / "tests" / "assets" / "tiny-checkpoint"

ROLLED = Edit(
    "engines/picture_encoder.py",
    "                self._features[visual.digest] = features.copy()",
    "                self._features[visual.digest] = np.roll(features, 1, axis=0)",
)
FAULTS = {
    "visual tokens rolled by one": (ROLLED, "places of the visual tokens, a picture"),
    "a row of the embedding further on": (
        Edit(
            "laco_export/embedding_table.py", "rows = self._rows[ids]", "rows = self._rows[(ids + 1) % self.shape[0]]"
        ),
        "embedding",
    ),
    "the decoder's cache not read": (
        Edit(
            "laco_export/decoder_steps.py",
            "    total = next(iter(cache.values())).shape[2] + length\n",
            "    cache = {name: 0 * values for name, values in cache.items()}\n"
            "    total = next(iter(cache.values())).shape[2] + length\n",
        ),
        "decoder's steps through the KV cache, without a picture",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_diff_names_the_part(bundle_folder, tmp_path, fault):
    edit, part = FAULTS[fault]
    said = plant(tmp_path / "source", edit).refusal("laco-engine", "diff", bundle_folder)
    assert f"first out of tolerance: {part}" in said


def test_the_export_gives_no_bundle_out(tmp_path):
    source, output = plant(tmp_path / "source", ROLLED), tmp_path / "out" / "bundle"
    said = source.refusal(
        "laco-export", "--model", TINY_CHECKPOINT, "--output", output, "--fp32", "--no-compile", "--target", "ort-cpu"
    )
    assert "the finished bundle does not answer as PyTorch does" in said
    assert "places of the visual tokens, a picture: cosine" in said
    assert list(output.parent.iterdir()) == []
