"""The golden file is read as it was written, or refused."""

import io
import resource
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
from files_as_they_are import FilesAsTheyAre

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
    graph = SimpleNamespace(output=SimpleNamespace(shape=(1, 4, 6)))
    manifest = SimpleNamespace(
        files=FilesAsTheyAre(tmp_path),
        golden=GOLDEN_NAME,
        accuracy={"pictures": ["a", "b"]},
        image_preprocessing=SimpleNamespace(height=8, width=8),
        vision=SimpleNamespace(graphs=[graph]),
    )
    return Bundle(tmp_path, manifest), expected


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


@pytest.mark.parametrize("damage", [cut_off, no_archive, without_features, with_pickled_names])
def test_a_damaged_file_is_refused(golden_bundle, damage):
    bundle, _ = golden_bundle
    damage(bundle.path / GOLDEN_NAME)
    with pytest.raises(BundleError, match=r"golden\.npz' cannot be read"):
        read_golden(bundle)


def change(path, **arrays):
    """Other arrays, stored; None leaves one out."""
    with np.load(path) as stored:
        before = {name: stored[name] for name in stored.files}
    np.savez(path, **{name: array for name, array in {**before, **arrays}.items() if array is not None})


NONE = np.empty((0, 8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"names": np.empty(0, "U4"), "pictures": NONE, "image_features": np.empty((0, 4, 6), np.float32)}, "'names'"),
        ({"names": np.array(["a"])}, "not of the pictures"),
        ({"names": np.array(["a", "c"])}, "not of the pictures"),
        ({"names": np.array([1, 2])}, "'names'"),
        ({"names": np.array([["a"], ["b"]])}, "'names'"),
        ({"names": np.array(["a", "b" * 5000])}, "'names'"),
        ({"pictures": NONE}, "'pictures'"),
        ({"pictures": np.zeros((2, 8), np.uint8)}, "'pictures'"),
        ({"pictures": np.zeros((2, 8, 8, 3), np.float32)}, "'pictures'"),
        ({"pictures": np.array(["x", "y"])}, "'pictures'"),
        ({"pictures": np.asfortranarray(np.zeros((2, 8, 8, 3), np.uint8))}, "'pictures'"),
        ({"image_features": np.zeros((2, 4, 7), np.float32)}, "'image_features'"),
        ({"image_features": np.zeros((2, 4, 6), np.float64)}, "'image_features'"),
        ({"token_indices/layers.0": None}, "token_indices/layers.0"),
        ({"token_indices/layers.0": np.full(8, -1)}, "before the first"),
        ({"token_indices/layers.0": np.arange(9)}, "token_indices/layers.0"),
        ({"token_indices/layers.0": np.empty(0, np.int64)}, "token_indices/layers.0"),
        ({"tokens/layers.0": np.zeros((1, 8, 5), np.float32)}, "tokens/layers.0"),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, dict) else None,
)
def test_arrays_of_another_kind_are_refused(golden_bundle, arrays, says):
    bundle, _ = golden_bundle
    change(bundle.path / GOLDEN_NAME, **arrays)
    with pytest.raises(BundleError) as caught:
        read_golden(bundle)
    assert says in caught.value.failed


def test_a_single_array_is_no_golden_file(golden_bundle):
    bundle, _ = golden_bundle
    with open(bundle.path / GOLDEN_NAME, "wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(BundleError, match="cannot be read"):
        read_golden(bundle)


def test_what_would_unfold_to_gigabytes_is_not_read(golden_bundle):
    """A header of 12 GB over a few bytes: refused by the header, before memory is asked for."""
    bundle, _ = golden_bundle
    path, header = bundle.path / GOLDEN_NAME, io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (2, 8, 200_000_000)})
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {**members, "tokens/layers.0.npy": header.getvalue() + bytes(1 << 20)}.items():
            archive.writestr(name, data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BundleError, match=r"tokens/layers\.0"):
        read_golden(bundle)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB
