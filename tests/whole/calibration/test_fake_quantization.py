"""Training under a bundle's numbers: the model computes what the bundle's graph does, and learns around it."""

import numpy as np
import pytest
import torch
import yaml

from laco_calibration.blocks.block_errors import feature_error
from laco_calibration.graph.partial_runner import rounded
from laco_calibration.options import CalibrationOptions
from laco_calibration.pipeline import calibrate
from laco_engines.runtimes import open_runtime
from laco_export.bundle import open_bundle
from laco_export.errors import OutputExistsError, UsageError
from laco_export.models import checkpoint
from laco_export.number_formats import quantize_weight, scaling
from laco_training.cli import main
from laco_training.fake_quant_stage import fine_tune
from laco_training.fake_quantization import FakeQuantizedLinear, Numbers, _rounded_input, _rounded_weight, attach
from laco_training.recipe_files import load_recipe


def _calibrated(folder, output, photographs, **options):
    options = {"target": "ort-cpu", "method": "max", "all_int8": True, **options}
    return open_bundle(calibrate(CalibrationOptions(folder, images=[photographs], output=output, **options)).output)


def _features(model, picture) -> np.ndarray:
    with torch.no_grad():
        return model.get_image_features(torch.from_numpy(picture)).numpy()


@pytest.fixture(scope="module")
def model(fp32_folder):
    """The FP32 bundle's own checkpoint: ``load()`` gives a new copy."""
    return lambda: checkpoint.load(fp32_folder.parent / "checkpoint").model


@pytest.mark.parametrize("half_scales", [False, True])
def test_rounds_as_calibration_does(half_scales):
    random = torch.Generator().manual_seed(0)
    x, weight = torch.randn(50, 70, generator=random), torch.randn(9, 70, generator=random)
    for kind, bounds in (("int8", (-2.5, 2.0)), ("uint8", (-1.0, 3.0)), ("fp8", (-2.5, 2.0))):
        numbers_of = scaling(kind, *bounds, half_scales=half_scales)
        numbers = Numbers(kind, "int8", half_scales, float(numbers_of.scale), numbers_of.zero_point)
        assert torch.allclose(_rounded_input(x, numbers), rounded(x, numbers_of), atol=1e-6), kind
    for kind in ("int8", "int7", "int4", "fp8"):
        expected = quantize_weight(kind, weight.T.numpy(), half_scales=half_scales).dequantized().T
        trained_on = _rounded_weight(weight, Numbers(None, kind, half_scales))
        assert np.allclose(trained_on.numpy(), expected, atol=1e-6), kind


@pytest.mark.parametrize("options, most", [({"target": "ort-cpu"}, 0.02), ({"target": "trt10.3"}, 0.1)])
def test_computes_what_the_bundle_computes(options, most, model, fp32_folder, photographs, pixels, tmp_path):
    bundle = _calibrated(fp32_folder, tmp_path / "out", photographs, **options)
    plain, trained = model(), model()

    assert attach(trained, bundle) == 32

    shipped = open_runtime(bundle, name="onnxruntime", threads=1)
    for picture in pixels[:2]:
        rounded_features, expected = _features(trained, picture), shipped.encode(picture)
        cost = feature_error(_features(plain, picture), expected).points
        assert feature_error(expected, rounded_features).points < max(most, 0.15 * cost)
        assert feature_error(_features(plain, picture), rounded_features).points > 0.3 * cost


def test_smoothing_of_the_merge_is_in_the_models_order(model, make_fp32_bundle, photographs, pixels, tmp_path):
    """With random scales for the merge's windows, a wrong order would change what FP32 computes by whole factors."""
    import laco_training.fake_quantization as module

    folder = make_fp32_bundle()
    bundle = _calibrated(folder, tmp_path / "out", photographs)
    real = module._smoothing_of

    def random_scales(bundle, record):
        smoothing = real(bundle, record)
        merge = next(e["input"] for e in record["linears"] if e["module"].endswith("mlp.linear_1"))
        # In the graph's order: four positions of 32 channels each.
        return {merge: np.repeat([0.25, 1.0, 4.0, 16.0], 32).astype(np.float32)} | dict.fromkeys(
            smoothing.keys() - {merge}
        )

    loaded = checkpoint.load(folder.parent / "checkpoint").model
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_smoothing_of", random_scales)
        attach(loaded, bundle)
    merged = next(m for n, m in loaded.named_modules() if n.endswith("mlp.linear_1"))
    by_channel = merged.smoothing.reshape(32, 4)  # PyTorch's windows are [C, r²]
    assert torch.equal(by_channel, torch.tensor([0.25, 1.0, 4.0, 16.0]).expand(32, 4))


def test_learns_around_the_rounding(model, fp32_folder, photographs, pixels, tmp_path):
    """Weights of four bits: a few steps towards FP32's features win back a good part of what rounding lost."""
    bundle = _calibrated(fp32_folder, tmp_path / "out", photographs, target="trt10.14", number_format="w4")
    plain, trained = model(), model()
    attach(trained, bundle)
    pictures = torch.from_numpy(np.concatenate(pixels))
    with torch.no_grad():
        expected = plain.get_image_features(pictures)
    tower = [p for n, p in trained.named_parameters() if not n.startswith("language_model")]
    optimizer, losses = torch.optim.Adam(tower, 1e-3), []
    for step in range(80):
        optimizer.param_groups[0]["lr"] = 1e-3 * (1 - step / 80)
        loss = (trained.get_image_features(pictures) - expected).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-5:]) < 0.75 * losses[0]
    assert trained.state_dict().keys() == plain.state_dict().keys()


@pytest.fixture(scope="module")
def finished_run(tiny_checkpoint, photographs, make_run_data, tmp_path_factory):
    """A recipe file, the folder of its finished run, and the bundle of its checkpoint in eight bits."""
    folder = tmp_path_factory.mktemp("run")
    loaded = checkpoint.load(tiny_checkpoint)
    loaded.model.vision_model.encoder.save_pretrained(folder / "encoder")
    loaded.model.language_model.save_pretrained(folder / "llm")
    loaded.processor.tokenizer.save_pretrained(folder / "llm")
    stage = {"data": "data.json", "global_batch_size": 4, "per_device_batch_size": 2, "precision": "fp32"}
    values = {
        "model": {"encoder": str(folder / "encoder"), "language_model": str(folder / "llm")},
        "compression": {"at": "1/2"},
        "data_folder": str(make_run_data),
        "all_stages": {**stage, "max_length": 500},
        "stages": {"2-si": {"learning_rates": {"encoder": 1e-3, "compressor": 1e-3, "projector": 1e-3}}},
    }
    (folder / "own.yaml").write_text(yaml.safe_dump(values))
    assert main(["--recipe", str(folder / "own.yaml"), "--output", str(folder / "run"), "--debug"]) == 0
    return folder


@pytest.fixture(scope="module")
def make_run_data(photographs, tmp_path_factory):
    """Training data about the photographs."""
    import json

    folder = tmp_path_factory.mktemp("run-data")
    entries = []
    for index, path in enumerate(sorted(photographs.iterdir())[:8]):
        (folder / path.name).write_bytes(path.read_bytes())
        turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": path.stem}]
        entries.append({"id": str(index), "image": path.name, "conversations": turns})
    (folder / "data.json").write_text(json.dumps(entries))
    return folder


def test_fine_tunes_a_finished_run(finished_run, photographs, tmp_path):
    from laco_export.exporter import pipeline
    from laco_export.exporter.options import ExportOptions

    run, recipe = finished_run / "run", load_recipe(str(finished_run / "own.yaml"), [])
    options = ExportOptions(run / "checkpoint", precision="fp32", output=tmp_path / "fp32", compile=False)
    fp32 = pipeline.export_bundle(options).output
    with pytest.raises(UsageError, match="is not calibrated"):
        fine_tune(recipe, run, fp32, seed=0, steps=3)
    bundle = _calibrated(fp32, tmp_path / "int8", photographs)

    summary = fine_tune(recipe, run, bundle.path, seed=0, steps=5)

    before, after = checkpoint.load(run / "checkpoint"), checkpoint.load(run / "fake-quant")
    assert summary["steps"] == 5 == len(summary["losses"]) and summary["linears"] == 18
    assert not any(isinstance(module, FakeQuantizedLinear) for module in after.model.modules())
    moved = [
        name
        for (name, parameter), tuned in zip(before.model.named_parameters(), after.model.parameters())
        if not torch.equal(parameter, tuned)
    ]
    assert any("encoder" in name for name in moved) and not any(name.startswith("language_model") for name in moved)
    with pytest.raises(OutputExistsError):
        fine_tune(recipe, run, bundle.path, seed=0, steps=5)


def test_a_bundle_of_another_checkpoint_is_refused(finished_run, fp32_folder, photographs, tmp_path, capsys):
    bundle = _calibrated(fp32_folder, tmp_path / "int8", photographs)
    arguments = ["--recipe", str(finished_run / "own.yaml"), "--output", str(finished_run / "run"), "--force"]
    assert main([*arguments, "--fake-quant", str(bundle.path)]) == 2
    assert "of another checkpoint" in capsys.readouterr().err
    assert main([*arguments[:3], str(tmp_path / "none"), "--fake-quant", str(bundle.path)]) == 2
