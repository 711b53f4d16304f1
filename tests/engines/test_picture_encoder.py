"""The newline's embedding is read as it was written, or refused; what is remembered of pictures: test_answering.py."""

from types import SimpleNamespace

import numpy as np
import pytest
from files_as_they_are import FilesAsTheyAre

from laco_engines.picture_encoder import PictureEncoder, read_newline
from laco_export.bundle import Bundle
from laco_export.errors import BundleError, NotFiniteError


@pytest.fixture
def tiled(tmp_path):
    """A bundle of nothing but a newline for features of width 6."""
    np.save(tmp_path / "newline.npy", np.arange(6, dtype=np.float32))
    graph = SimpleNamespace(output=SimpleNamespace(shape=(1, 4, 6)))
    vision = SimpleNamespace(image_newline="newline.npy", graphs=[graph])
    return Bundle(tmp_path, SimpleNamespace(vision=vision, files=FilesAsTheyAre(tmp_path)))


def test_the_newline_is_read(tiled):
    newline = read_newline(tiled)
    assert newline.dtype == np.float32 and newline.tolist() == [0, 1, 2, 3, 4, 5]
    tiled.manifest.vision.image_newline = None
    assert read_newline(tiled) is None


@pytest.mark.parametrize(
    "array",
    [
        np.arange(7, dtype=np.float32),
        np.zeros((1, 6), np.float32),
        np.zeros(6, np.float64),
        np.array([{}] * 6, dtype=object),
        np.array(list("abcdef")),
        np.full(6, np.nan, np.float32),
    ],
    ids=["shape", "dimensions", "dtype", "objects", "text", "NaN"],
)
def test_another_array_is_refused(tiled, array):
    np.save(tiled.path / "newline.npy", array, allow_pickle=True)
    with pytest.raises(BundleError, match=r"newline\.npy'"):
        read_newline(tiled)


@pytest.mark.parametrize("content", [b"", b"a text", b"\x93NUMPY\x01\x00", b"\x93NUMPY\x09\x00\x00\x00"])
def test_a_file_that_is_no_array_is_refused(tiled, content):
    (tiled.path / "newline.npy").write_bytes(content)
    with pytest.raises(BundleError, match=r"newline\.npy' cannot be read"):
        read_newline(tiled)


def test_an_array_that_is_cut_off_is_refused(tiled):
    path = tiled.path / "newline.npy"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(BundleError, match="cut off"):
        read_newline(tiled)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_features_that_are_no_numbers_are_no_answer(bundle, answerer, make_picture, value):
    visuals = [answerer.prompter.preparer.picture(make_picture(seed), alone=False) for seed in (1, 2)]

    def encode(pixel_values):
        features = answerer.vision.encode(pixel_values)
        features[1, 3, 5] = value
        return features

    encoder = PictureEncoder(SimpleNamespace(encode=encode, name="altered"))
    with pytest.raises(NotFiniteError, match="the vision tower gives inf or NaN") as refused:
        encoder.encode(visuals)
    assert refused.value.given == "1 of 2 pictures or tiles, on altered"
    assert encoder.encoded == 0  # nothing of it is remembered
