"""What laco-calibrate refuses: each with what was given, and nothing left behind."""

import errno
from pathlib import Path

import pytest

from laco_calibration.cli import main
from laco_calibration.errors import CalibrationError
from laco_calibration.options import CalibrationOptions
from laco_calibration.pipeline import calibrate
from laco_export.bundle import open_bundle
from laco_export.errors import UsageError


@pytest.mark.parametrize("recipe", ["tensorrt", "cpu"])
def test_a_calibrated_bundle_is_refused(recipe, calibrated, photographs, tmp_path):
    options = CalibrationOptions(
        calibrated(recipe=recipe, all_int8=True).output, images=[photographs], output=tmp_path / "again"
    )
    with pytest.raises(CalibrationError, match="calibrated already"):
        calibrate(options)


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
        (ort_folder, {"images": [photographs], "recipe": "cpu", "statistics": [of_another]}, "of another graph"),
        (ort_folder, {"images": [photographs], "recipe": "tensorrt"}, "a graph that TensorRT reads"),
        (fp32_folder, {"images": [photographs], "statistics": [tmp_path / "few" / "torn.png"]}, "no calibration"),
    ]
    for folder, options, message in cases:
        options = {"smoothing": False, **options, "output": tmp_path / "out"}
        with pytest.raises(CalibrationError) as raised:
            calibrate(CalibrationOptions(folder, **options))
        assert message in str(raised.value), str(raised.value)
        left = {path.name for path in tmp_path.iterdir()} - {"empty", "broken", "few"}
        assert not left, left


def test_a_graph_that_only_onnx_runtime_reads_gets_no_tensorrt_numbers(ort_folder, photographs, tmp_path, capsys):
    arguments = [str(ort_folder), "--images", str(photographs), "--output", str(tmp_path / "out")]
    assert main([*arguments, "--fp8"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "recipe cpu, since the bundle was exported with --target ort-cpu" in said
    assert "recipe cpu does not offer --fp8" in said
    assert main([*arguments, "--attention"]) == 2
    assert not list(tmp_path.iterdir())


def test_too_few_pictures_are_told_before_the_search(fp32_folder, photographs, tmp_path, monkeypatch):
    from laco_calibration import observation

    monkeypatch.setattr(observation, "search_strengths", lambda *_, **__: pytest.fail("searched first"))
    images = sorted(photographs.iterdir())[:3]
    with pytest.raises(CalibrationError, match="--method mse needs more pictures"):
        calibrate(CalibrationOptions(fp32_folder, images=images, output=tmp_path / "out"))
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_nothing(fp32_folder, photographs, tmp_path, monkeypatch, capsys):
    import laco_calibration.quantizing.quantized_graphs as quantized_bundle
    from laco_export import disk_space

    arguments = [str(fp32_folder), "--images", str(photographs), "--method", "max", "--no-smoothing", "--force"]
    arguments += ["--output", str(tmp_path / "out"), "--max-drop", "5"]
    with monkeypatch.context() as patch:
        patch.setattr(disk_space.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})())
        assert main(arguments) == 1
    assert "cannot hold the bundle" in " ".join(capsys.readouterr().err.split())

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", "vision.data")

    monkeypatch.setattr(quantized_bundle, "write_graph", full)
    assert main(arguments) == 1
    assert "the disk is full" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [".out.calibration.json"], "what was seen stays, to resume"


def test_force_replaces_bundles_alone(fp32_folder, photographs, tmp_path, capsys):
    kept = tmp_path / "notes.txt"
    kept.write_text("mine")
    assert main([str(fp32_folder), "--images", str(photographs), "--output", str(kept), "--force"]) == 2
    assert "no bundle" in " ".join(capsys.readouterr().err.split())
    assert kept.read_text() == "mine"


@pytest.mark.parametrize(
    "options, message",
    [
        ({}, "needs real pictures"),
        ({"images": ["p"], "recipe": "gpu"}, "recipe"),
        ({"images": ["p"], "recipe": "cpu", "number_format": "fp8"}, "recipe cpu does not offer --fp8"),
        ({"images": ["p"], "recipe": "cpu", "attention": True}, "attention"),
        ({"images": ["p"], "method": "mean"}, "method"),
        ({"images": ["p"], "max_drop": 0}, "max-drop"),
        ({"images": ["p"], "limit": 0}, "limit"),
        ({"images": ["p"], "model": "m"}, "either"),
        ({"images": ["p"], "force": True, "resume": True}, "resume"),
        ({"images": ["p"], "at": "1/2"}, "--at"),
    ],
)
def test_wrong_usage(options, message):
    with pytest.raises(UsageError, match=message):
        CalibrationOptions("bundle", **options)


def test_force_does_not_replace_the_bundle_that_it_starts_from(fp32_folder, photographs, tmp_path, monkeypatch):
    import shutil

    source = shutil.copytree(fp32_folder, tmp_path / "source")
    (tmp_path / "link").symlink_to(source)
    monkeypatch.chdir(tmp_path)
    for bundle in (source, "source", tmp_path / "link"):
        with pytest.raises(UsageError, match="the bundle that it starts from"):
            calibrate(CalibrationOptions(Path(bundle), images=[photographs], output=source, force=True))
    assert open_bundle(source).manifest.vision.precision == "fp32"


@pytest.mark.parametrize("known_by", ["--statistics", "--resume"])
def test_smoothed_statistics_are_not_for_no_smoothing(known_by, calibrated, fp32_folder, photographs, tmp_path):
    """Nor do they pass for those of another smoothing: what was seen holds for one graph."""
    smoothed = calibrated(smoothing=True, method="mse", all_int8=True).output / "calibration.json"
    options = {"bundle": fp32_folder, "images": [photographs], "output": tmp_path / "out"}
    if known_by == "--resume":
        (tmp_path / ".out.calibration.json").write_bytes(smoothed.read_bytes())
        options["resume"] = True
    else:
        options["statistics"] = [smoothed]
    with pytest.raises(CalibrationError, match="taken with smoothing"):
        calibrate(CalibrationOptions(**options, smoothing=False))
    if known_by == "--resume":
        plain = calibrated(all_int8=True).output / "calibration.json"
        for other in ({"smoothing_of": plain}, {"statistics": [plain]}):
            with pytest.raises(CalibrationError, match="interrupted run"):
                calibrate(CalibrationOptions(**options, **other))
        assert (tmp_path / ".out.calibration.json").exists()
