"""A finished bundle is asked before it gets its name, and what is wrong with it is named."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from laco_engines import picture_encoder
from laco_engines.trial import TrialError, try_bundle
from laco_export.bundle import read_manifest, write_manifest
from laco_export.golden_answers import GOLDEN_ANSWERS_NAME
from laco_export.summary import trial_lines


@pytest.fixture(scope="module")
def tiled_folder(tiled_model, tmp_path_factory):
    """An FP32 bundle of a model that tiles single pictures."""
    from laco_export.exporter import pipeline
    from laco_export.exporter.options import ExportOptions
    from laco_export.models import checkpoint

    folder = tmp_path_factory.mktemp("tiled")
    checkpoint.save(*tiled_model, folder / "tiny")
    options = ExportOptions(folder / "tiny", precision="fp32", output=folder / "bundle", compile=False)
    return pipeline.export_bundle(options).output


@pytest.fixture
def resealed(bundle_folder, tmp_path):
    """``resealed(change, folder=None, **fields)``: a copy of a bundle that ``change(copy)`` has changed, its hashes
    right again."""

    def make(change=lambda copy: None, folder=bundle_folder, **fields):
        copy = tmp_path / "resealed"
        shutil.copytree(folder, copy)
        change(copy)
        write_manifest(copy, dataclasses.replace(read_manifest(copy), **fields))
        return copy

    return make


def rolled(encode):
    """An encoder whose visual tokens stand one place further on."""
    return lambda self, visuals: [np.roll(features, 1, axis=0) for features in encode(self, visuals)]


def parts_of(record) -> list[str]:
    assert all(part["passed"] for part in record["parts"])
    return [part["part"].partition(" (")[0] for part in record["parts"]]


def test_a_bundle_answers_without_a_picture_about_one_and_about_several(bundle_folder):
    record = try_bundle(bundle_folder, threads=1)
    assert parts_of(record) == [
        "answer, without a picture",
        "places of the visual tokens, a picture",
        "answer, a picture",
        "places of the visual tokens, 2 pictures",
        "answer, 2 pictures",
    ]
    answers = [part["numbers"] for part in record["parts"] if part["part"].startswith("answer")]
    assert all(answer["same"] == answer["tokens"] == 8 for answer in answers)
    assert all(0 < answer["error"] < 1e-4 for answer in answers)  # computed, and by another library
    assert record["runtime"].startswith("onnxruntime")


def test_a_model_that_tiles_is_asked_about_a_tiled_picture(tiled_folder):
    parts = parts_of(try_bundle(tiled_folder, threads=1))
    assert parts[0] == "image newline"
    assert parts[2:4] == ["tile packing", "answer, a tiled picture"]


def test_visual_tokens_that_are_one_place_off_are_named(bundle_folder, tiled_folder, monkeypatch):
    monkeypatch.setattr(picture_encoder.PictureEncoder, "encode", rolled(picture_encoder.PictureEncoder.encode))
    with pytest.raises(TrialError, match="does not answer as PyTorch does") as refused:
        try_bundle(bundle_folder, threads=1)
    assert refused.value.given.startswith("places of the visual tokens, a picture: cosine")
    with pytest.raises(TrialError) as refused:
        try_bundle(tiled_folder, threads=1)
    assert "tile packing: cosine" in refused.value.given


def without_tokenizer(copy):
    (copy / "tokenizer.json").unlink()


def with_a_token_beyond_the_embedding(copy):
    document = json.loads((copy / "tokenizer.json").read_text())
    document["added_tokens"].append({**document["added_tokens"][-1], "id": 264, "content": "<|beyond|>"})
    (copy / "tokenizer.json").write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (without_tokenizer, "has no tokenizer.json"),
        (with_a_token_beyond_the_embedding, "tokens for which the embedding has no row"),
    ],
    ids=["no tokenizer", "a token without a row"],
)
def test_what_run_would_refuse_is_refused_now(resealed, change, named):
    with pytest.raises(TrialError, match="the finished bundle cannot be asked") as refused:
        try_bundle(resealed(change), threads=1)
    assert named in str(refused.value)


def test_another_image_token_is_refused(resealed, bundle):
    decoder = dataclasses.replace(bundle.manifest.decoder, image_token_id=bundle.manifest.decoder.image_token_id - 1)
    with pytest.raises(TrialError, match="another id than the manifest"):
        try_bundle(resealed(decoder=decoder), threads=1)


def test_a_prompt_with_other_tokens_is_named(resealed):
    def other_prompt(copy):
        with np.load(copy / GOLDEN_ANSWERS_NAME) as stored:
            arrays = dict(stored)
        arrays["1/prompt_ids"][3] += 1
        np.savez(copy / GOLDEN_ANSWERS_NAME, **arrays)

    with pytest.raises(TrialError) as refused:
        try_bundle(resealed(other_prompt), threads=1)
    assert refused.value.given.startswith("prompt, a picture: ")
    assert "the first other one at 3" in refused.value.given


def test_weights_of_another_language_model_answer_otherwise(resealed):
    def zeroed(copy):
        path = copy / "llm" / "model.onnx_data"
        path.write_bytes(bytes(path.stat().st_size))

    with pytest.raises(TrialError) as refused:
        try_bundle(resealed(zeroed), threads=1)
    assert "answer, without a picture" in refused.value.given


def test_a_tower_without_kernels_here_is_not_asked_and_not_refused(bundle_folder, tmp_path):
    from laco_export.exporter.options import ExportOptions
    from laco_export.exporter.pipeline import export_bundle

    options = ExportOptions(bundle_folder.parent / "tiny", precision="bf16", output=tmp_path / "bf16", compile=False)
    trial = export_bundle(options, try_bundle).trial
    assert trial["parts"] == []
    assert "ONNX Runtime cannot load" in trial["not_asked"]
    assert list(trial_lines(trial)) == [f"not asked before it got its name: {trial['not_asked']}"]


def test_a_calibrated_towers_own_error_explains_what_it_moves(resealed, bundle):
    """Its tokens are looked for where they stand, and not how good they are, which its budget judges."""
    vision = dataclasses.replace(bundle.manifest.vision, calibration={"target": "ort-cpu"})
    record = try_bundle(resealed(worse_projector, vision=vision), threads=1)
    places = [part["numbers"] for part in record["parts"] if part["part"].startswith("places")]
    assert all(place["max_abs"] < 1e-4 for place in places)
    allowed = [part["numbers"]["allowed"] for part in record["parts"] if part["part"].startswith("answer")]
    assert allowed[0] < 0.05 < allowed[1]


def worse_projector(copy):
    """The golden features are off by a tenth from what the tower gives."""
    with np.load(copy / "golden.npz") as stored:
        arrays = dict(stored)
    noise = np.random.default_rng(0).normal(size=arrays["image_features"].shape).astype(np.float32)
    arrays["image_features"] += 0.1 * arrays["image_features"].std() * noise
    np.savez(copy / "golden.npz", **arrays)


def test_a_newline_that_was_changed_is_named(resealed, tiled_folder):
    def changed(copy):
        newline = np.load(copy / "image_newline.npy")
        newline[3] += 1e-6 * abs(newline).max()
        np.save(copy / "image_newline.npy", newline)

    with pytest.raises(TrialError) as refused:
        try_bundle(resealed(changed, tiled_folder), threads=1)
    assert refused.value.given.startswith("image newline: off by up to")
    assert ";" not in refused.value.given  # so little that nothing else shows it
