"""Blocks are chosen and quantized until the file is within the budget, or there is none."""

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from laco_calibration.cli import main
from laco_calibration.errors import NotWorthItError
from laco_calibration.options import CalibrationOptions
from laco_calibration.pipeline import calibrate
from laco_engines.comparison.golden_check import check_golden
from laco_engines.runtimes import open_runtime
from laco_export.bundle import open_bundle, read_manifest, write_manifest


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
    arguments = [str(hopeless), "--images", str(photographs), "--target", "trt10.3", "--output", str(output)]
    assert main([*arguments, "--resume"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "--resume: there are no statistics of an interrupted run" in said
    assert "there is no INT8 graph of this model that is worth having" in said
    assert "the worst block alone is" in said and "points" in said
    assert not output.exists()
    assert [path.name for path in tmp_path.iterdir()] == [".none.calibration.json"], "the statistics stay"
    with pytest.raises(NotWorthItError):
        calibrate(CalibrationOptions(hopeless, images=[photographs], output=output, max_drop=0.5, resume=True))


def test_on_the_cpu_a_graph_that_gains_no_time_is_not_handed_out(fp32_folder, photographs, tmp_path, monkeypatch):
    from laco_calibration import sensitivity
    from laco_calibration.blocks.choice import BlockTime

    slower = lambda graph, blocks, *_, **__: {block.name: BlockTime(1.0, 1.5) for block in blocks}
    monkeypatch.setattr(sensitivity, "measure_blocks", slower)
    options = CalibrationOptions(
        fp32_folder, images=[photographs], target="ort-cpu", method="max", smoothing=False, output=tmp_path / "none"
    )
    with pytest.raises(NotWorthItError, match="gains time"):
        calibrate(options)
    assert not (tmp_path / "none").exists()


@pytest.fixture(scope="module")
def drifted(ort_folder, tmp_path_factory):
    """A bundle whose golden features are longer by 3 % than what its graph computes: on no other picture does that
    show."""
    folder = shutil.copytree(ort_folder, tmp_path_factory.mktemp("drifted") / "fp32")
    with np.load(folder / "golden.npz") as stored:
        arrays = {name: stored[name] for name in stored.files}
    np.savez(folder / "golden.npz", **{**arrays, "image_features": arrays["image_features"] * np.float32(1.03)})
    write_manifest(folder, replace(read_manifest(folder), files={}))
    return folder


@pytest.fixture
def calibrate_drifted(drifted, photographs, tmp_path, monkeypatch):
    """``calibrate_drifted(**options)``, as on a processor where eight bits take half the time."""
    from laco_calibration import sensitivity
    from laco_calibration.blocks.choice import BlockTime

    faster = lambda graph, blocks, *_, **__: {block.name: BlockTime(1.0, 0.5) for block in blocks}
    monkeypatch.setattr(sensitivity, "measure_blocks", faster)
    options = {"images": [photographs], "method": "max", "smoothing": False, "output": tmp_path / "out"}
    return lambda **more: calibrate(CalibrationOptions(drifted, **options, **more))


def test_what_fails_on_the_golden_pictures_is_not_handed_out(calibrate_drifted, tmp_path):
    with pytest.raises(NotWorthItError) as raised:
        calibrate_drifted()
    told = re.search(
        r"loses (\d\.\d+) points on the golden pictures \(worst: drawn: \w+\) even with \d blocks", str(raised.value)
    )
    assert told and 2 < float(told[1]) < 4, str(raised.value)
    assert not (tmp_path / "out").exists()


def test_all_int8_hands_it_out_and_says_what_diff_will_say(calibrate_drifted):
    """It was asked for whatever it costs: training under the rounding begins with such a bundle."""
    report = calibrate_drifted(all_int8=True)
    assert report.record["golden"]["share_of_tolerance"] > 1 >= report.record["points"]
    assert any("laco-engine diff says so too" in note for note in report.notes)
    bundle = open_bundle(report.output)
    assert report.notes[-1] in bundle.manifest.notes
    assert not check_golden(bundle, open_runtime(bundle, name="onnxruntime")).passed
