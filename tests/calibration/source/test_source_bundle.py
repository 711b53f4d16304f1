"""Which bundles a calibration starts from."""

import json
import shutil
from dataclasses import replace

import pytest

from laco_calibration import observation
from laco_calibration.errors import CalibrationError
from laco_calibration.options import CalibrationOptions
from laco_calibration.pipeline import calibrate
from laco_calibration.source.source_bundle import open_source_bundle
from laco_export.bundle import open_bundle, read_manifest, write_manifest
from laco_export.errors import BundleError


@pytest.mark.parametrize("target", ["trt10.3", "ort-cpu"])
def test_a_calibrated_bundle_is_refused(target, calibrated, photographs, tmp_path):
    options = CalibrationOptions(
        calibrated(target=target, all_int8=True).output, images=[photographs], output=tmp_path / "again"
    )
    with pytest.raises(CalibrationError, match="calibrated already"):
        calibrate(options)


def test_a_tokenizer_without_the_image_token_is_refused_before_the_pictures(
    fp32_folder, photographs, tmp_path, monkeypatch
):
    folder = tmp_path / "lacking"
    shutil.copytree(fp32_folder, folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["added_tokens"] = [token for token in tokenizer["added_tokens"] if token["content"] != "<|image_pad|>"]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    write_manifest(folder, replace(read_manifest(folder), files={}))
    open_bundle(folder)
    monkeypatch.setattr(observation, "observe", lambda *_, **__: pytest.fail("looked first"))
    with pytest.raises(BundleError, match="does not have the image token"):
        calibrate(CalibrationOptions(folder, images=[photographs], method="max", output=tmp_path / "out"))
    assert list(tmp_path.iterdir()) == [folder]


def test_questions_need_a_language_model(fp32_folder, make_fp32_bundle, photographs, tmp_path):
    turns = [{"from": "human", "value": "What is it?"}]
    path = sorted(photographs.iterdir())[0]
    (tmp_path / "ask.json").write_text(json.dumps([{"image": str(path), "conversations": turns}]))
    folder = make_fp32_bundle(llm=False)
    options = {"images": [photographs], "questions": tmp_path / "ask.json", "output": tmp_path / "out"}
    with pytest.raises(CalibrationError, match="no language model"):
        calibrate(CalibrationOptions(folder, **options))


@pytest.mark.parametrize(
    "written_for, target", [("ort-cpu", "trt10.3"), ("ort-cpu", "trt10.14"), ("trt10.14", "trt10.3")]
)
def test_a_graph_that_the_target_does_not_read_is_refused(written_for, target, make_tiny_model, make_fp32_bundle):
    folder = make_fp32_bundle(make_tiny_model(), target=written_for)
    with pytest.raises(CalibrationError) as raised:
        open_source_bundle(folder, target, asks_questions=False)
    assert f"exported with --target {written_for}" in str(raised.value)
    assert f"--fp32 --target {target}" in str(raised.value)
    assert open_source_bundle(folder, "ort-cpu", asks_questions=False).manifest.vision.target == written_for
