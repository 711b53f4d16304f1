import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest

from laco_engines.comparison.golden_check import GoldenCheck, check_golden, compare_samples, tolerance
from laco_engines.runtimes import open_runtime
from laco_export.bundle import open_bundle, read_manifest, write_manifest
from laco_export.errors import BundleError
from laco_export.golden import read_golden


@pytest.fixture(scope="module")
def runtime(bundle):
    return open_runtime(bundle, threads=1)


def altered(runtime, change):
    """A runtime that computes something else."""
    return SimpleNamespace(name="altered", encode=lambda pixels: change(runtime.encode(pixels)))


def test_a_bundle_agrees_with_its_own_golden_features(bundle, runtime):
    check = check_golden(bundle, runtime)
    assert check.passed
    assert check.first_failing is None
    assert [name for name, _ in check.pictures] == read_golden(bundle).names
    assert check.worst.cosine > 0.9999999
    assert check.worst.max_abs > 0  # really computed by another runtime
    assert "agrees with PyTorch at export on 4 pictures: cosine" in check.summary()


@pytest.mark.parametrize(
    "change",
    [
        lambda features: 1.05 * features,
        lambda features: features[::-1].copy(),
        lambda features: np.where(np.arange(features.shape[1])[:, None] == 2, -features, features),
        lambda features: np.where(features == features.max(), np.nan, features),
        lambda features: np.where(features == features.max(), 2 * features, features),
    ],
    ids=["scale", "pictures exchanged", "one token", "NaN", "one value"],
)
def test_another_result_is_told(bundle, runtime, change):
    check = check_golden(bundle, altered(runtime, change))
    assert not check.passed
    assert "does not agree" in check.summary()
    json.loads(json.dumps(check.to_dict(), allow_nan=False))


def test_the_tolerance_is_the_manifests(bundle, runtime, rewritten):
    """An INT8 bundle is held to what its --max-drop allowed, not to its precision's usual numbers."""
    change = lambda features: features + 0.05 * np.abs(features).mean() * np.sign(np.sin(np.arange(features.shape[-1])))
    assert not check_golden(bundle, altered(runtime, change)).passed
    loose = {"cosine": 0.98, "norm_drift": 0.02, "max_abs": 0.4}
    folder = rewritten(accuracy={**bundle.manifest.accuracy, "tolerance": loose})
    opened = open_bundle(folder)
    assert dataclasses.asdict(tolerance(opened)) == loose
    assert check_golden(opened, altered(runtime, change)).passed


def test_a_manifest_without_a_tolerance_is_an_error(rewritten):
    with pytest.raises(BundleError, match="does not say how far"):
        tolerance(open_bundle(rewritten(accuracy={})))


def test_samples_are_compared_at_their_tokens(bundle):
    samples = read_golden(bundle).samples
    assert next(iter(samples)) == "vision_model.embeddings"
    computed = {}
    for name, (indices, tokens) in samples.items():
        hidden = np.full((len(tokens), indices.max() + 1, tokens.shape[-1]), 9.0, np.float32)
        hidden[:, indices] = tokens
        computed[name] = hidden
    assert all(boundary.cosine == 1 for boundary in compare_samples(bundle, samples, computed))
    third = list(samples)[2]
    computed[third] = computed[third] * 1.1
    boundaries = compare_samples(bundle, samples, computed)
    assert [boundary.name for boundary in boundaries if not boundary.within()] == [third]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"nothing"])
def test_a_golden_file_that_cannot_be_read_is_an_error(rewritten, content):
    folder = rewritten()
    (folder / "golden.npz").write_bytes(content)
    write_manifest(folder, read_manifest(folder))
    with pytest.raises(BundleError, match=r"golden\.npz' cannot be read"):
        read_golden(open_bundle(folder))


def test_it_needs_no_torch():
    import subprocess
    import sys

    module = "laco_engines.comparison.golden_check"
    code = f"import sys, {module}; assert not {{'torch', 'onnx', 'polygraphy'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_comparison_of_nothing_does_not_pass(bundle):
    assert not GoldenCheck("runtime", "PyTorch", [], []).passed
    with pytest.raises(BundleError, match="no block"):
        compare_samples(bundle, {}, {"layers.0": np.zeros((4, 9, 5))})
    with pytest.raises(BundleError, match="no block"):
        compare_samples(bundle, read_golden(bundle).samples, {})


def test_a_token_that_a_block_does_not_have_is_an_error(bundle):
    samples = read_golden(bundle).samples
    name, (indices, hidden) = next(iter(samples.items()))
    computed = {name: np.zeros((len(hidden), int(indices.max()), hidden.shape[-1]), np.float32)}
    with pytest.raises(BundleError, match=name):
        compare_samples(bundle, {name: (indices, hidden)}, computed)
