import numpy as np
import pytest

from laco_export.agreement import Agreement, Tolerance
from laco_export.errors import CheckpointError, ExportError
from laco_export.exporter.proof import REWRITTEN, Proof, Reference

HALF = Tolerance(0.999, 1e-2, 0.1)


def compared(name, cosine=1.0, norm_ratio=1.0, max_abs=0.0):
    return Agreement(name, cosine, norm_ratio, max_abs, 1.0, cosine, HALF)


def test_a_failure_names_the_worst_and_the_first_and_offers_bisect():
    tensors = [compared("embeddings"), compared("layers.3", 0.998), compared("layers.4", *[float("nan")] * 3)]
    proof = Proof("fp16", "half arithmetic", {"half arithmetic": tensors})
    with pytest.raises(ExportError) as error:
        proof.require()
    text = str(error.value)
    assert "the FP16 graph" in text
    assert "worst at layers.4" in text
    assert "first out of tolerance: layers.3" in text
    assert "--bisect" in text
    assert "--fp32" in text
    assert proof.worst.name == "layers.4"


def test_every_runner_must_agree_and_the_judge_is_asked_first():
    agreements = {"ONNX Runtime": [compared("a")], "ONNX Runtime, as shipped": [compared("a", 0.5)]}
    with pytest.raises(ExportError, match="as shipped"):
        Proof("fp32", "ONNX Runtime", agreements).require()
    both = {"other": [compared("a", 0.5)], "judge": [compared("b", 0.5)]}
    assert Proof("fp16", "judge", both).failing[0] == "judge"


@pytest.mark.parametrize("numbers", [(0.998, 1.0, 0.0), (1.0, 1.02, 0.0), (1.0, 1.0, 0.2)])
def test_each_of_the_three_numbers_gates(numbers):
    assert Proof("fp16", "judge", {"judge": [compared("a", *numbers)]}).failing is not None


def test_a_wrong_rewrite_is_not_blamed_on_the_precision():
    with pytest.raises(ExportError) as error:
        Proof("fp32", REWRITTEN, {REWRITTEN: [compared("a", 0.5)]}).require()
    assert "the rewritten graph" in str(error.value)
    assert "--fp32" not in str(error.value)


def test_the_manifest_states_each_tensor_with_its_tolerance():
    tensors = [
        compared("layers.0"),
        compared("layers.0 minus its input", 0.9995),
        compared("image_features", float("nan")),
    ]
    document = Proof("fp16", "half arithmetic", {"half arithmetic": tensors}).to_manifest(["a.png"])
    assert [tensor["name"] for tensor in document["tensors"]] == ["layers.0", "image_features"]
    assert [tensor["name"] for tensor in document["branches"]] == ["layers.0 minus its input"]
    assert document["branches"][0]["tolerance"] == {"cosine": 0.999, "norm_drift": 1e-2, "max_abs": 0.1}
    assert document["tensors"][1]["cosine"] is None  # JSON has no NaN


def test_a_checkpoint_that_gives_nan_is_not_blamed_on_the_graph(make_tiny_model):
    import torch

    from laco_export.exporter.tower import VisionTower

    model = make_tiny_model()
    with torch.no_grad():
        model.vision_model.encoder.encoder.layers[1].ffn.down_proj.weight[0, 0] = float("nan")
    pixels = np.zeros((1, 3, 56, 56), np.float32)
    with pytest.raises(CheckpointError, match="does not come to finite numbers in PyTorch") as error:
        Reference.of(VisionTower(model).eval(), [pixels, pixels])
    assert "first at vision_model.encoder.encoder.layers.1, picture 1 of 2" in str(error.value)
