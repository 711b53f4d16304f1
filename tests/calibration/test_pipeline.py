"""Calibrations on real photographs: what they make, and that they leave nothing half-done."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from laco_calibration.errors import CalibrationError
from laco_calibration.options import CalibrationOptions
from laco_calibration.pipeline import calibrate
from laco_calibration.statistics.records import Statistics
from laco_engines.comparison.golden_check import check_golden
from laco_engines.runtimes import open_runtime
from laco_export.agreement import agreement
from laco_export.bundle import open_bundle, read_manifest
from laco_export.errors import UsageError


@pytest.mark.parametrize("target", ["trt10.3", "ort-cpu"])
def test_the_bundle_is_whole_and_as_good_as_it_says(target, calibrated, fp32_bundle, pixels):
    # The tiny graph gains no time from eight bits: all blocks, so that there is something to look at.
    report = calibrated(target=target, all_int8=True)
    bundle = open_bundle(report.output)
    vision = bundle.manifest.vision
    runtime, base = open_runtime(bundle, name="onnxruntime"), open_runtime(fp32_bundle, name="onnxruntime")

    for picture in pixels:
        measured = agreement("image_features", base.encode(picture), runtime.encode(picture))
        assert 0.995 < measured.cosine < 0.9999999 and abs(measured.norm_ratio - 1) < 0.01
    assert runtime.batch_sizes == [1, 2]
    assert (vision.precision, vision.target) == ("int8", target)
    record = vision.calibration
    assert record["target"] == target
    assert record["time"] == ("unmeasured" if target == "trt10.3" else "measured")
    assert len(record["linears"]) == 32 and all(linear["scale"] > 0 for linear in record["linears"])
    assert record["judged"]["agreement"] is not None and len(record["judged_on"]) == 8
    assert (report.output / "calibration.png").stat().st_size > 1000
    stored = Statistics.load(report.output / "calibration.json")
    assert stored.digest() == record["statistics_sha256"] and len(stored.pictures) == 12
    assert (record["held_out"], record["golden"]["pictures"], record["golden"]["calibrated_on"]) == (8, 4, 0)
    assert record["golden"]["share_of_tolerance"] <= 1 and check_golden(bundle, runtime).passed
    assert bundle.manifest.decoder is not None, "the language model came along"
    cosine = next(t["cosine"] for t in bundle.manifest.accuracy["tensors"] if t["name"] == "image_features")
    assert cosine > bundle.manifest.accuracy["tolerance"]["cosine"]
    said = bundle.manifest.accuracy, bundle.manifest.notes
    assert "branches" not in said[0] and not any("--no-compile" in note for note in said[1]), "the FP32 graph's"


def test_a_tensorrt_bundle_carries_fp16_to_fall_back_on(calibrated):
    bundle = open_bundle(calibrated(all_int8=True).output)
    fallback = bundle.manifest.vision.fallback
    assert fallback["precision"] == "fp16" and [graph["batch"] for graph in fallback["graphs"]] == [1, 2]
    assert all(bundle.file(graph["file"]).is_file() for graph in fallback["graphs"])
    assert bundle.file(fallback["weights"]).stat().st_size > 0


@pytest.mark.parametrize("options", [{"number_format": "fp8"}, {"number_format": "w8"}, {"attention": True}])
def test_other_forms(options, calibrated):
    report = calibrated(**options)
    assert report.record["points"] <= 5.0
    assert read_manifest(report.output).vision.precision == options.get("number_format", "int8")


def test_weights_alone_are_for_memory_and_carry_no_other_form(calibrated, fp32_folder):
    """laco-engine build would keep FP16 where it is faster, and weights alone are not for speed."""
    output = calibrated(number_format="w8").output
    assert open_bundle(output).manifest.vision.fallback is None
    size = sum(path.stat().st_size for path in output.glob("vision*"))
    assert size < 0.75 * sum(path.stat().st_size for path in fp32_folder.glob("vision*"))


def test_weights_alone_are_smaller_and_need_no_statistics(calibrated, fp32_folder):
    report = calibrated(target="ort-cpu", number_format="w8", max_drop=20.0)
    assert report.record["statistics"] is None and not (report.output / "calibration.json").exists()
    assert (report.output / "vision.data").stat().st_size < 0.55 * (fp32_folder / "vision.data").stat().st_size


def test_from_a_checkpoint(tiny_checkpoint, photographs, tmp_path):
    options = CalibrationOptions(
        model=tiny_checkpoint,
        images=[photographs],
        target="ort-cpu",
        method="max",
        all_int8=True,
        smoothing=False,
        output=tmp_path / "out",
    )
    report = calibrate(options)
    assert open_bundle(report.output).manifest.vision.precision == "int8"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert np.isfinite(report.record["points"])


def test_bad_input_is_named_and_leaves_nothing(fp32_folder, ort_folder, calibrated, photographs, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "few").mkdir()
    for index in range(3):
        (tmp_path / "broken" / f"{index}.jpg").write_text(f"no picture {index}")
        name = f"astronaut-{index}.png"
        (tmp_path / "few" / name).write_bytes((photographs / name).read_bytes())
    (tmp_path / "few" / "torn.png").write_bytes((photographs / "coffee-0.png").read_bytes()[:999])
    of_another = calibrated(all_int8=True).output / "calibration.json"
    cases = [
        (fp32_folder, {"images": [tmp_path / "empty"]}, "no pictures in"),
        (fp32_folder, {"images": [tmp_path / "broken"]}, "3 broken"),
        (fp32_folder, {"images": [tmp_path / "few"]}, "3 that can be read; 1 could not be read"),
        (ort_folder, {"images": [photographs], "target": "ort-cpu", "statistics": [of_another]}, "of another graph"),
        (ort_folder, {"images": [photographs], "target": "trt10.3"}, "a graph that trt10.3 reads"),
        (fp32_folder, {"images": [photographs], "statistics": [tmp_path / "few" / "torn.png"]}, "no calibration"),
    ]
    for folder, options, message in cases:
        options = {"smoothing": False, **options, "output": tmp_path / "out"}
        with pytest.raises(CalibrationError) as raised:
            calibrate(CalibrationOptions(folder, **options))
        assert message in str(raised.value), str(raised.value)
        left = {path.name for path in tmp_path.iterdir()} - {"empty", "broken", "few"}
        assert not left, left


def test_force_does_not_replace_the_bundle_that_it_starts_from(fp32_folder, photographs, tmp_path, monkeypatch):
    source = shutil.copytree(fp32_folder, tmp_path / "source")
    (tmp_path / "link").symlink_to(source)
    monkeypatch.chdir(tmp_path)
    for bundle in (source, "source", tmp_path / "link"):
        with pytest.raises(UsageError, match="the bundle that it starts from"):
            calibrate(CalibrationOptions(Path(bundle), images=[photographs], output=source, force=True))
    assert open_bundle(source).manifest.vision.precision == "fp32"
