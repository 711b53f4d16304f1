"""The pictures that are measured and compared on, drawn or the user's."""

import numpy as np
import pytest
from PIL import Image

from laco_export.errors import CheckpointError, ImageError, UsageError
from laco_export.exporter.golden_pictures import MAX_PICTURES, golden_pictures, prepare_pictures
from laco_export.preprocessing import ImagePreprocessing


def test_drawn_pictures_are_the_same_each_time_and_differ_from_each_other():
    first, second = golden_pictures([], 96), golden_pictures([], 96)
    assert [name for name, _ in first] == ["drawn: gradient", "drawn: noise", "drawn: shapes", "drawn: text"]
    for (_, drawn), (_, again) in zip(first, second):
        assert drawn.size == (96, 96)
        assert drawn.mode == "RGB"
        assert drawn.tobytes() == again.tobytes()
    assert len({image.tobytes() for _, image in first}) == 4


def test_given_pictures_and_folders_are_read_in_order(tmp_path):
    for name in ("b.png", "a.jpg"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    assert [name for name, _ in golden_pictures([tmp_path], 32)] == ["a.jpg", "b.png"]
    assert [name for name, _ in golden_pictures([tmp_path / "b.png"], 32)] == ["b.png"]


def test_what_cannot_be_used_is_said(tmp_path):
    with pytest.raises(UsageError, match="no pictures"):
        golden_pictures([tmp_path], 32)
    (tmp_path / "x.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match="not a picture"):
        golden_pictures([tmp_path], 32)
    with pytest.raises(ImageError, match="does not exist"):
        golden_pictures([tmp_path / "absent.png"], 32)
    with pytest.raises(UsageError, match="too many"):
        golden_pictures([tmp_path / "x.png"] * (MAX_PICTURES + 1), 32)


PREPROCESSING = ImagePreprocessing(28, 42, "squash", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def test_pictures_are_brought_to_the_encoders_input(tmp_path):
    Image.new("RGB", (9, 5), (255, 0, 51)).save(tmp_path / "mine.png")
    prepared = prepare_pictures(golden_pictures([tmp_path], 84), PREPROCESSING, (28, 42))
    assert (prepared.names, prepared.preprocessing) == (["mine.png"], PREPROCESSING)
    assert (prepared.pixels[0].shape, prepared.pixels[0].dtype) == ((28, 42, 3), np.uint8)
    assert (prepared.pixel_values[0].shape, prepared.pixel_values[0].dtype) == ((1, 3, 28, 42), np.float32)
    np.testing.assert_allclose(prepared.pixel_values[0][0, :, 3, 5], [2, -2, -1.2], rtol=1e-6)
    assert len(prepare_pictures(golden_pictures([], 84), PREPROCESSING, (28, 42)).names) == 4


def test_a_preprocessing_of_another_size_than_the_encoders_is_refused():
    with pytest.raises(CheckpointError, match="differ in the picture's size") as error:
        prepare_pictures(golden_pictures([], 84), PREPROCESSING, (42, 28))
    assert error.value.given == "28 x 42 and (42, 28)"
