"""A tower with two merges in eight bits, for TensorRT and for a CPU: seen at each merge, and trained against."""

import json

import numpy as np
import pytest
import torch

from laco_calibration.blocks.block_errors import feature_error
from laco_calibration.graph.linear_layers import PROJECTOR, find_blocks, residuals_of_merges
from laco_calibration.options import CalibrationOptions
from laco_calibration.pipeline import calibrate
from laco_calibration.source.picture_set import find_pictures, read_tiles
from laco_calibration.statistics.records import MLP_BRANCH, RESIDUAL_BRANCH
from laco_engines.runtimes import open_runtime
from laco_export.bundle import open_bundle
from laco_export.exporter.external_data import graph_from_file
from laco_export.models import checkpoint
from laco_training import fake_quantization

MERGES = ("merge 1", "merge 2")


@pytest.fixture(scope="module")
def folder(make_fp32_bundle, make_tiny_model):
    """8 x 8 tokens become 4 x 4 and then, in padded windows of nine, 2 x 2."""
    return make_fp32_bundle(make_tiny_model(blocks=3, grid=(8, 8), at="block:1+block:2", ratio="2+3"), llm=None)


@pytest.fixture(scope="module")
def calibrated(folder, photographs, tmp_path_factory):
    """``calibrated(target)``: the bundle with every block in eight bits, each made once."""
    made = {}

    def run(target: str):
        if target not in made:
            options = {"output": tmp_path_factory.mktemp("out") / "bundle", "method": "max", "all_int8": True}
            made[target] = calibrate(CalibrationOptions(folder, images=[photographs], target=target, **options)).output
        return open_bundle(made[target])

    return run


def test_blocks_lie_before_between_and_after_the_merges(folder):
    graph = graph_from_file(folder / "vision_b1.onnx")
    blocks = find_blocks(graph)
    regions = ["before merge 1", MERGES[0], "between merges 1 and 2", MERGES[1], "after merge 2", PROJECTOR]
    assert [block.region for block in blocks] == regions
    assert [block.linears[0].tokens for block in blocks] == [64, 16, 16, 4, 4, 4]
    assert list(residuals_of_merges(graph).values()) == list(MERGES)


@pytest.mark.parametrize(("target", "most"), [("ort-cpu", 0.02), ("trt10.3", 0.1)])
def test_the_bundle_computes_what_training_would_see(target, most, folder, calibrated, photographs):
    """The statistics have both branches of both merges, and PyTorch with the bundle's numbers gives its features."""
    bundle = calibrated(target)
    record = bundle.manifest.vision.calibration
    assert all(block["eight_bit"] for block in record["blocks"])
    assert [block["region"] for block in record["blocks"]][1::2][:2] == list(MERGES)
    tensors = json.loads(bundle.read(record["statistics"]))["tensors"].values()
    regions = {tensor["region"] for tensor in tensors}
    assert {f"{merge}: {branch}" for merge in MERGES for branch in (MLP_BRANCH, RESIDUAL_BRANCH)} <= regions

    load = lambda: checkpoint.load(folder.parent / "checkpoint").model
    plain, trained = load(), load()
    assert fake_quantization.attach(trained, bundle) == 3 * 7 + 2 * 2 + 2
    shipped = open_runtime(bundle, name="onnxruntime", threads=1)
    # Four tokens a picture: twenty pictures together, so that single roundings that fall the other way do not count.
    pixels = [next(read_tiles(picture, bundle)) for picture in find_pictures([photographs]).pictures]
    with torch.no_grad():
        batch = torch.from_numpy(np.concatenate(pixels))
        expected, rounded = (model.get_image_features(batch).numpy() for model in (plain, trained))
    expected, rounded = (features.reshape(1, -1, features.shape[-1]) for features in (expected, rounded))
    features = np.concatenate([shipped.encode(picture) for picture in pixels], axis=1)
    cost = feature_error(expected, features).points
    assert feature_error(features, rounded).points < max(most, 0.15 * cost)
    assert feature_error(expected, rounded).points > 0.3 * cost


def test_smoothing_of_each_merge_is_in_the_models_order(folder, calibrated, monkeypatch):
    """Scales in the graph's order, one for each position of a window, come to PyTorch's windows ``[C, r²]``."""
    bundle, real = calibrated("ort-cpu"), fake_quantization._smoothing_of
    positions = {2: np.arange(1.0, 5.0), 3: np.arange(1.0, 10.0)}

    def by_position(bundle, record):
        inputs = {e["module"]: e["input"] for e in record["linears"] if e["module"].endswith("mlp.linear_1")}
        scales = {inputs[name]: np.repeat(positions[r], 32).astype(np.float32) for name, r in zip(inputs, (2, 3))}
        return scales | dict.fromkeys(real(bundle, record).keys() - scales.keys())

    monkeypatch.setattr(fake_quantization, "_smoothing_of", by_position)
    model = checkpoint.load(folder.parent / "checkpoint").model
    fake_quantization.attach(model, bundle)
    for (_, merge), ratio in zip(model.vision_model.all_merges(), (2, 3)):
        expected = torch.from_numpy(positions[ratio]).float().expand(32, ratio**2)
        assert torch.equal(merge.mlp.linear_1.smoothing.reshape(32, ratio**2), expected)
        assert merge.mlp.linear_2.smoothing is None
