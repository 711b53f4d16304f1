"""The command: what it prints, its exit codes, and that it leaves nothing half-done."""

import errno
import os
import shutil

import pytest

from laco_calibration.cli import main
from laco_export.bundle import open_bundle


def test_the_bundle_says_whom_it_is_for(ort_folder, photographs, tmp_path, monkeypatch, capsys):
    """Exported for ONNX Runtime's CPU: for that target without being asked, said on the way and in the bundle."""
    monkeypatch.chdir(tmp_path)
    bundle = tmp_path / "model-at1_2-fp32-ort-cpu"
    shutil.copytree(ort_folder, bundle, copy_function=os.link)
    arguments = ["--images", str(photographs), "--method", "max", "--no-smoothing", "--all-int8"]
    assert main([bundle.name, *arguments]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "calibrated for --target ort-cpu, the bundle's" in said
    made = open_bundle(tmp_path / "model-at1_2-int8-ort-cpu").manifest
    assert (made.vision.calibration["target"], made.vision.target) == ("ort-cpu", "ort-cpu")
    assert any("--target ort-cpu" in note for note in made.notes)


def test_a_graph_that_only_onnx_runtime_reads_gets_no_tensorrt_numbers(ort_folder, photographs, tmp_path, capsys):
    arguments = [str(ort_folder), "--images", str(photographs), "--output", str(tmp_path / "out")]
    assert main([*arguments, "--fp8"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "calibrated for --target ort-cpu, the bundle's" in said
    assert "--target ort-cpu does not offer --fp8" in said
    assert main([*arguments, "--attention"]) == 2
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_nothing(fp32_folder, photographs, tmp_path, monkeypatch, capsys):
    from laco_calibration.quantizing import quantized_graphs
    from laco_export import disk_space

    arguments = [str(fp32_folder), "--images", str(photographs), "--method", "max", "--no-smoothing", "--force"]
    arguments += ["--output", str(tmp_path / "out"), "--max-drop", "5"]
    with monkeypatch.context() as patch:
        patch.setattr(disk_space.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})())
        assert main(arguments) == 1
    assert "cannot hold the bundle" in " ".join(capsys.readouterr().err.split())

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", "vision.data")

    monkeypatch.setattr(quantized_graphs, "write_graphs", full)
    assert main(arguments) == 1
    assert "the disk is full" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [".out.calibration.json"], "what was seen stays, to resume"


def test_force_replaces_bundles_alone(fp32_folder, photographs, tmp_path, capsys):
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    assert main([str(fp32_folder), "--images", str(photographs), "--output", str(notes), "--force"]) == 2
    assert "no bundle" in " ".join(capsys.readouterr().err.split())
    assert notes.read_text() == "mine"


def test_help_is_quick():
    import subprocess
    import sys

    code = "import sys; from laco_calibration.cli import build_parser; build_parser().format_help(); "
    code += "sys.exit(any(name in sys.modules for name in ('torch', 'onnx', 'onnxruntime', 'transformers')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    "recipe, instead",
    [
        (["tensorrt"], "leave it out, or give --target trt10.3"),
        (["cpu"], "--target ort-cpu"),
        (["x"], "--target"),
        ([], "--"),
    ],
)
def test_the_old_spelling_of_the_target_is_refused_with_the_new_one(recipe, instead, tmp_path, capsys):
    assert main(["bundle", "--images", "photos", "--output", str(tmp_path / "out"), "--recipe", *recipe]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "no --recipe" in said and "--target trt10.3, trt10.14 or ort-cpu" in said and instead in said
    assert not list(tmp_path.iterdir())
