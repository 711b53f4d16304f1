"""The golden file is read as it was written, or refused."""

from types import SimpleNamespace

import numpy as np
import pytest

from laco_export.bundle import Bundle
from laco_export.errors import BundleError
from laco_export.golden import GOLDEN_NAME, read_golden, write_golden


def test_the_file_holds_full_features_and_a_sample_of_each_boundary(tmp_path):
    values = np.random.default_rng(0)
    expected = [
        {
            "image_features": values.standard_normal((1, 4, 6)),
            "layers.0": values.standard_normal((1, 100, 5)),
            "residual": values.standard_normal((1, 2, 2, 5)),
        }
        for _ in range(2)
    ]
    pixels = [np.full((8, 8, 3), n, np.uint8) for n in range(2)]
    write_golden(tmp_path, ["a", "b"], pixels, expected)
    with np.load(tmp_path / "golden.npz", allow_pickle=False) as stored:
        assert stored["names"].tolist() == ["a", "b"]
        np.testing.assert_array_equal(stored["pictures"], np.stack(pixels))
        assert stored["image_features"].dtype == np.float32
        np.testing.assert_allclose(stored["image_features"][1], expected[1]["image_features"][0], rtol=1e-6)
        indices = stored["token_indices/layers.0"]
        assert (indices[0], indices[-1], len(indices)) == (0, 99, 8)
        np.testing.assert_allclose(stored["tokens/layers.0"][1], expected[1]["layers.0"][0, indices], rtol=1e-6)
        assert stored["tokens/residual"].shape == (2, 4, 5)


@pytest.fixture
def golden_bundle(tmp_path):
    """A bundle of nothing but a golden file: two pictures, one boundary."""
    values = np.random.default_rng(1)
    expected = [
        {"image_features": values.standard_normal((1, 4, 6)), "layers.0": values.standard_normal((1, 9, 5))}
        for _ in range(2)
    ]
    write_golden(tmp_path, ["a", "b"], [np.full((8, 8, 3), n, np.uint8) for n in range(2)], expected)
    return Bundle(tmp_path, SimpleNamespace(golden=GOLDEN_NAME)), expected


def test_what_was_written_is_read(golden_bundle):
    bundle, expected = golden_bundle
    golden = read_golden(bundle)
    assert golden.names == ["a", "b"]
    assert [picture.mean() for picture in golden.pictures] == [0, 1]
    features = np.concatenate([tensors["image_features"] for tensors in expected])
    np.testing.assert_allclose(golden.image_features, features, rtol=1e-6)
    assert list(golden.samples) == ["layers.0"]
    indices, hidden = golden.samples["layers.0"]
    np.testing.assert_allclose(hidden[1], expected[1]["layers.0"][0, indices], rtol=1e-6)


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-200])


def no_archive(path):
    path.write_bytes(b"no archive")


def without_features(path):
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files if name != "image_features"}
    np.savez(path, **arrays)


def with_pickled_names(path):
    """Loading pickles runs code: they are refused."""
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    np.savez(path, **{**arrays, "names": np.array([{}], dtype=object)})


@pytest.mark.parametrize("damage", [cut_off, no_archive, without_features, with_pickled_names, lambda p: p.unlink()])
def test_a_damaged_file_is_refused(golden_bundle, damage):
    bundle, _ = golden_bundle
    damage(bundle.path / GOLDEN_NAME)
    with pytest.raises(BundleError, match=r"golden\.npz' cannot be read"):
        read_golden(bundle)
