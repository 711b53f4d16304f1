"""A vision tower with pretrained weights in few bits, beside what the field's own quantiser makes of it."""

from types import SimpleNamespace

import numpy as np
import pytest
from real_weights.labelled_pictures import LabelledPictures
from real_weights.plain_conversions import plain_int8
from real_weights.tower_runs import boundaries_of, features_of, opened

from laco_calibration.blocks.block_errors import feature_error
from laco_calibration.options import CalibrationOptions
from laco_calibration.pipeline import calibrate
from laco_export.bundle import open_bundle
from laco_export.exporter.options import ExportOptions
from laco_export.exporter.pipeline import export_bundle

pytestmark = [pytest.mark.real, pytest.mark.slow]

OBSERVED, JUDGED = 12, 10


@pytest.fixture(scope="module")
def tower(real_part, make_tiny_checkpoint, tmp_path_factory):
    """The pretrained encoder merged at 1/4 in front of a tiny language model: its FP32 bundle and pictures."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from laco_export.models import LacoForConditionalGeneration
    from laco_export.models.encoders.loading import load_encoder

    folder = tmp_path_factory.mktemp("real")
    torch.manual_seed(0)
    sizes = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 3}
    language_model = Qwen2ForCausalLM(Qwen2Config(**sizes, num_key_value_heads=1, vocab_size=264))
    encoder = load_encoder(real_part("encoder") / "224")
    model = LacoForConditionalGeneration.from_parts(encoder, language_model, image_token_id=262, at="1/4")
    checkpoint = make_tiny_checkpoint(model.eval(), folder / "checkpoint")
    options = ExportOptions(checkpoint, at="1/4", precision="fp32", llm=None, compile=False, output=folder / "fp32")
    bundle = open_bundle(export_bundle(options).output)
    prepare = bundle.manifest.image_preprocessing
    training = LabelledPictures.read(real_part("pictures") / "train.json")
    held_out = LabelledPictures.read(real_part("pictures") / "heldout.json").evenly_spaced(JUDGED)
    graph = bundle.file("vision_b1.onnx")
    tiles = list(held_out.pixel_values(prepare))
    return SimpleNamespace(
        folder=folder,
        bundle=bundle,
        graph=graph,
        training=training,
        observed=list(training.evenly_spaced(OBSERVED).pixel_values(prepare)),
        held_out=tiles,
        expected=features_of(graph, tiles),
    )


def points(expected, actual) -> np.ndarray:
    return np.array([feature_error(*pair).points for pair in zip(expected, actual, strict=True)])


@pytest.fixture(scope="module")
def calibrated(tower):
    """All blocks in eight bits for TensorRT: the ranges are what is looked at, not the choice of blocks."""
    options = CalibrationOptions(
        tower.bundle.path,
        images=[tower.training.data],
        limit=OBSERVED + 8,
        all_int8=True,
        compile=False,
        output=tower.folder / "int8",
    )
    return open_bundle(calibrate(options).output)


def test_int8_is_nearer_to_fp32_than_the_plain_quantisers(tower, calibrated):
    """On pictures that neither saw, both symmetric with a scale a channel of a weight, as TensorRT takes them."""
    plain = tower.folder / "plain.onnx"
    plain_int8(tower.graph, plain, tower.observed, operators=["MatMul"], symmetric=True)
    ours = points(tower.expected, features_of(calibrated.file("vision_b1.onnx"), tower.held_out, half=True))
    theirs = points(tower.expected, features_of(plain, tower.held_out))
    assert ours.mean() < 0.7 * theirs.mean()
    assert ours.max() < theirs.max()


def test_the_block_that_makes_the_outliers_keeps_its_whole_range(calibrated):
    """``layer.2``'s MLP writes what all later blocks read, in a few tokens; by least squares its input would be cut to
    a third."""
    (outlying,) = (block for block in calibrated.manifest.vision.calibration["blocks"] if block["name"].endswith("r.2"))
    assert outlying["method"] == "max"


def test_half_keeps_the_softmax_whose_scores_it_cannot_hold(calibrated):
    """One attention has scores of 300, which half rounds by 0.15; random weights have none such."""
    measured = {
        node["node"]: node["reason"]
        for node in calibrated.manifest.vision.kept_fp32
        if "(rule)" not in node["reason"] and "serves" not in node["reason"]
    }
    assert {name.rpartition("/")[2] for name in measured} == {"Softmax", "MatMul"}
    assert len({name.rpartition("/")[0] for name in measured}) == 1
    assert all("scores reach" in reason for reason in measured.values())


def test_half_costs_next_to_nothing(tower, calibrated):
    """The FP16 graph that travels in the bundle, node by node in half arithmetic."""
    fallback = calibrated.file(calibrated.manifest.vision.fallback["graphs"][0]["file"])
    assert points(tower.expected, features_of(fallback, tower.held_out, half=True)).max() < 0.1


def test_boundaries_are_read_from_any_conversion(tower, calibrated):
    """Every block's end has the same name in FP32 and in eight bits, and holds nearly the same."""
    names = boundaries_of(tower.graph)
    assert len(names) >= 12 + 2  # blocks, embeddings, merge
    with (
        opened(tower.graph, names, half=False) as fp32,
        opened(calibrated.file("vision_b1.onnx"), names, half=True) as int8,
    ):
        expected, actual = fp32(tower.held_out[0]), int8(tower.held_out[0])
    for name in names:
        error = np.linalg.norm(actual[name].ravel() - expected[name].ravel()) / np.linalg.norm(expected[name])
        assert 0 < error < 0.3, name
