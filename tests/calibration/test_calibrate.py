"""The command as a whole, on real photographs: what it makes, and that it leaves nothing half-done."""

import os
import shutil

import numpy as np
import pytest

from laco_calibration.cli import main
from laco_calibration.errors import CalibrationError, NotWorthItError
from laco_calibration.options import CalibrationOptions
from laco_calibration.pipeline import calibrate
from laco_calibration.statistics.records import Statistics
from laco_engines.runtimes import open_runtime
from laco_export.agreement import agreement
from laco_export.bundle import open_bundle, read_manifest


@pytest.mark.parametrize("recipe", ["tensorrt", "cpu"])
def test_the_bundle_is_whole_and_as_good_as_it_says(recipe, calibrated, fp32_bundle, pixels):
    # The tiny graph gains no time from eight bits: all blocks, so that there is something to look at.
    report = calibrated(recipe=recipe, all_int8=True)
    bundle = open_bundle(report.output)
    vision = bundle.manifest.vision
    runtime, base = open_runtime(bundle, name="onnxruntime"), open_runtime(fp32_bundle, name="onnxruntime")

    for picture in pixels:
        found = agreement("image_features", base.encode(picture), runtime.encode(picture))
        assert 0.995 < found.cosine < 0.9999999 and abs(found.norm_ratio - 1) < 0.01
    assert runtime.batch_sizes == [1, 2]
    assert (vision.precision, vision.target) == ("int8", "trt10.3" if recipe == "tensorrt" else "ort-cpu")
    record = vision.calibration
    assert record["time"] == ("unmeasured" if recipe == "tensorrt" else "measured")
    assert len(record["linears"]) == 32 and all(one["scale"] > 0 for one in record["linears"])
    assert record["judged"]["agreement"] is not None and len(record["judged_on"]) == 8
    assert (report.output / "calibration.png").stat().st_size > 1000
    stored = Statistics.load(report.output / "calibration.json")
    assert stored.digest() == record["statistics_sha256"] and len(stored.pictures) == 12
    assert bundle.manifest.decoder is not None, "the language model came along"
    cosine = next(t["cosine"] for t in bundle.manifest.accuracy["tensors"] if t["name"] == "image_features")
    assert cosine > bundle.manifest.accuracy["tolerance"]["cosine"]
    said = bundle.manifest.accuracy, bundle.manifest.notes
    assert "branches" not in said[0] and not any("--no-compile" in note for note in said[1]), "the FP32 graph's"


def test_a_tensorrt_bundle_carries_fp16_to_fall_back_on(calibrated):
    bundle = open_bundle(calibrated(all_int8=True).output)
    fallback = bundle.manifest.vision.fallback
    assert fallback["precision"] == "fp16" and [one["batch"] for one in fallback["graphs"]] == [1, 2]
    assert all(bundle.file(one["file"]).is_file() for one in fallback["graphs"])
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
    report = calibrated(recipe="cpu", number_format="w8", max_drop=20.0)
    assert report.record["statistics"] is None and not (report.output / "calibration.json").exists()
    assert (report.output / "vision.data").stat().st_size < 0.55 * (fp32_folder / "vision.data").stat().st_size


def test_resumed_on_statistics_the_bundle_is_the_same(calibrated, fp32_folder, photographs, tmp_path, monkeypatch):
    """Interrupted after ten pictures and resumed, every file is byte for byte that of an uninterrupted run."""
    import laco_calibration.observation as looking

    whole = calibrated(smoothing=True, method="mse", all_int8=True)
    options = {"recipe": "tensorrt", "method": "mse", "max_drop": 5.0, "all_int8": True}
    options = {"bundle": fp32_folder, "images": [photographs], "output": tmp_path / "bundle", **options}
    real = looking.observe

    def interrupted(*arguments, advance, **keywords):
        count = iter(range(100))

        def step():
            advance()
            if next(count) == 9:
                raise KeyboardInterrupt

        real(*arguments, advance=step, **keywords)

    monkeypatch.setattr(looking, "observe", interrupted)
    with pytest.raises(KeyboardInterrupt):
        calibrate(CalibrationOptions(**options))
    assert not (tmp_path / "bundle").exists()
    with pytest.raises(CalibrationError, match="did not end"):
        calibrate(CalibrationOptions(**options))

    monkeypatch.setattr(looking, "observe", real)
    resumed = calibrate(CalibrationOptions(**options, resume=True))

    for path in whole.output.iterdir():
        if path.is_file() and path.name not in ("laco.json", "calibration.png"):
            assert path.read_bytes() == (resumed.output / path.name).read_bytes(), path.name
    times = {"notes"}
    for key in whole.record.keys() - times:
        assert whole.record[key] == resumed.record[key], key
    assert "resumed after 10 pictures" in resumed.notes
    assert list(tmp_path.iterdir()) == [tmp_path / "bundle"], "the progress file is gone"


def test_statistics_of_two_runs_are_merged_and_used(calibrated, fp32_folder, photographs, tmp_path):
    names = sorted(photographs.iterdir())
    smoothed = calibrated(smoothing=True, method="mse", all_int8=True)
    parts = []
    for index, half in enumerate((names[:10], names[10:])):
        options = CalibrationOptions(
            fp32_folder,
            images=list(half),
            smoothing_of=smoothed.output / "calibration.json",
            output=tmp_path / str(index),
            all_int8=True,
        )
        parts.append(calibrate(options).output / "calibration.json")
    options = CalibrationOptions(
        fp32_folder, images=[photographs], statistics=parts, output=tmp_path / "both", all_int8=True
    )
    report = calibrate(options)
    assert any("judged on pictures that were also calibrated on" in note for note in report.notes)
    merged = Statistics.load(report.output / "calibration.json")
    assert len(merged.pictures) == 20 and len(set(merged.pictures)) == 20
    assert main(["--compare", *map(str, parts), "--json"]) == 0


def test_planted_outliers_miss_the_budget_without_smoothing_and_meet_it_with(
    make_tiny_model, make_fp32_bundle, plant_outliers, photographs, tmp_path
):
    folder = make_fp32_bundle(plant_outliers(make_tiny_model(blocks=4, grid=(8, 8)), 60.0))
    options = {"images": [photographs], "recipe": "tensorrt", "all_int8": True}
    points = {}
    for smoothing in (False, True):
        output = tmp_path / str(smoothing)
        report = calibrate(CalibrationOptions(folder, **options, smoothing=smoothing, output=output))
        points[smoothing] = report.record["points"]
        assert report.record["smoothing_equal_in_fp32"] is None or (
            report.record["smoothing_equal_in_fp32"]["cosine"] > 0.9999999
        )
    assert points[False] > 1.0 >= points[True]


@pytest.fixture(scope="module")
def hopeless(make_tiny_model, make_fp32_bundle):
    """A model that no INT8 can save: behind every GELU, through which no scale can be folded, one channel is a
    thousand times the others, and nothing that comes after it reads that channel."""
    import torch

    model = make_tiny_model("siglip", blocks=2, grid=(4, 4), method="pixel_shuffle")  # no branch around the merge's MLP
    layers = model.vision_model.encoder.vision_model.encoder.layers
    merge = next(iter(model.vision_model.compressors.values())).mlp
    pairs = [(layer.mlp.fc1, layer.mlp.fc2) for layer in layers]
    pairs += [(merge.linear_1, merge.linear_2), (model.projector.linear_1, model.projector.linear_2)]
    with torch.no_grad():
        for first, second in pairs:
            first.weight[0] *= 1e3
            first.bias[0] = 1e3
            second.weight *= 5
            second.weight[:, 0] = 0
    return make_fp32_bundle(model)


def test_a_model_that_no_int8_can_save_leaves_no_bundle(hopeless, photographs, tmp_path, capsys):
    """The command says so and by how much, exits 1, and leaves nothing but what --resume would use."""
    output = tmp_path / "none"
    arguments = [str(hopeless), "--images", str(photographs), "--recipe", "tensorrt", "--output", str(output)]
    assert main(arguments) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "there is no INT8 graph of this model that is worth having" in said
    assert "the worst block alone is" in said and "points" in said
    assert not output.exists()
    assert [path.name for path in tmp_path.iterdir()] == [".none.calibration.json"], "the statistics stay"
    with pytest.raises(NotWorthItError):
        calibrate(CalibrationOptions(hopeless, images=[photographs], output=output, max_drop=0.5, resume=True))


def test_on_the_cpu_a_graph_that_gains_no_time_is_not_handed_out(fp32_folder, photographs, tmp_path, monkeypatch):
    import laco_calibration.sensitivity as weighing
    from laco_calibration.blocks.choice import BlockTime

    slower = lambda graph, blocks, *_, **__: {block.name: BlockTime(1.0, 1.5) for block in blocks}
    monkeypatch.setattr(weighing, "measure_blocks", slower)
    options = CalibrationOptions(
        fp32_folder, images=[photographs], recipe="cpu", method="max", smoothing=False, output=tmp_path / "none"
    )
    with pytest.raises(NotWorthItError, match="gains time"):
        calibrate(options)
    assert not (tmp_path / "none").exists()


def test_the_bundle_says_which_recipe(ort_folder, photographs, tmp_path, monkeypatch, capsys):
    """Exported for ONNX Runtime's CPU: recipe cpu without being asked for, said on the way and in the bundle."""
    monkeypatch.chdir(tmp_path)
    bundle = tmp_path / "model-at1_2-fp32-ort-cpu"
    shutil.copytree(ort_folder, bundle, copy_function=os.link)
    arguments = ["--images", str(photographs), "--method", "max", "--no-smoothing", "--all-int8"]
    assert main([bundle.name, *arguments]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "recipe cpu, since the bundle was exported with --target ort-cpu" in said
    made = open_bundle(tmp_path / "model-at1_2-int8-cpu").manifest
    assert (made.vision.calibration["recipe"], made.vision.target) == ("cpu", "ort-cpu")
    assert any("recipe cpu" in note for note in made.notes)


def test_from_a_checkpoint(tiny_checkpoint, photographs, tmp_path):
    options = CalibrationOptions(
        model=tiny_checkpoint,
        images=[photographs],
        recipe="cpu",
        method="max",
        all_int8=True,
        smoothing=False,
        output=tmp_path / "out",
    )
    report = calibrate(options)
    assert open_bundle(report.output).manifest.vision.precision == "int8"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert np.isfinite(report.record["points"])


def test_help_is_quick():
    import subprocess
    import sys

    code = "import sys; from laco_calibration.cli import build_parser; build_parser().format_help(); "
    code += "sys.exit(any(name in sys.modules for name in ('torch', 'onnx', 'onnxruntime', 'transformers')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
