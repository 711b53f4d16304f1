import numpy as np
import pytest

from laco_export.errors import ExportError
from laco_export.exporter.proof import TOLERANCES, Agreement, Proof, agreement

HIDDEN = np.random.default_rng(0).standard_normal((1, 6, 8)).astype(np.float32)


def test_equal_tensors_agree():
    found = agreement("t", HIDDEN, HIDDEN)
    assert found.cosine == pytest.approx(1)
    assert found.norm_ratio == pytest.approx(1)
    assert found.max_abs == 0
    assert found.within(TOLERANCES["fp32"])


def test_a_lost_scale_has_cosine_one_and_fails_by_its_norm():
    found = agreement("t", HIDDEN, 1.02 * HIDDEN)
    assert found.cosine == pytest.approx(1)
    assert found.norm_ratio == pytest.approx(1.02)
    assert not found.within(TOLERANCES["fp16"])


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_a_value_that_is_no_number_fails(value):
    broken = HIDDEN.copy()
    broken[0, 0, 0] = value
    assert not agreement("t", HIDDEN, broken).within(TOLERANCES["fp16"])


def test_zeros_agree_with_zeros_alone():
    assert agreement("t", 0 * HIDDEN, 0 * HIDDEN).within(TOLERANCES["fp32"])
    assert not agreement("t", 0 * HIDDEN, HIDDEN).within(TOLERANCES["fp32"])
    assert not agreement("t", HIDDEN, 0 * HIDDEN).within(TOLERANCES["fp32"])


def test_one_wrong_token_shows_beside_a_large_one():
    expected, given = HIDDEN.copy(), HIDDEN.copy()
    expected[0, 0] *= 1e4
    given[0, 0] *= 1e4
    given[0, 1] *= -1
    found = agreement("t", expected, given)
    assert found.within(TOLERANCES["fp16"])  # the whole is ruled by the large token: why this field is reported
    assert found.worst_token_cosine == pytest.approx(-1)


def test_another_shape_is_an_error():
    with pytest.raises(ExportError, match="another shape"):
        agreement("t", HIDDEN, HIDDEN[:, :3])


def good(name):
    return Agreement(name, 1.0, 1.0, 0.0, 1.0)


def test_a_failure_names_the_worst_and_the_first():
    tensors = [
        good("vision_model.embeddings"),
        Agreement("layers.3", 0.998, 1.0, 0.1, 0.9),
        Agreement("layers.4", float("nan"), float("nan"), float("nan"), 0.5),
    ]
    proof = Proof("fp16", "half arithmetic", TOLERANCES["fp16"], {"half arithmetic": tensors}, [])
    with pytest.raises(ExportError) as error:
        proof.require()
    text = str(error.value)
    assert "worst at layers.4" in text
    assert "first out of tolerance: layers.3" in text
    assert "--fp32" in text
    assert proof.worst.name == "layers.4"


def test_every_runner_must_agree():
    agreements = {"ONNX Runtime": [good("a")], "ONNX Runtime, as shipped": [Agreement("a", 0.5, 1.0, 1.0, 0.5)]}
    with pytest.raises(ExportError, match="as shipped"):
        Proof("fp32", "ONNX Runtime", TOLERANCES["fp32"], agreements, []).require()
