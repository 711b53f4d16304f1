import numpy as np
import pytest
from PIL import Image

from laco_export.errors import ImageError, UsageError
from laco_export.exporter.golden_pictures import MAX_PICTURES, golden_pictures
from laco_export.golden import write_golden


def test_drawn_pictures_are_the_same_each_time_and_differ_from_each_other():
    first, second = golden_pictures(None, 96), golden_pictures([], 96)
    assert [name for name, _ in first] == ["drawn: gradient", "drawn: noise", "drawn: shapes", "drawn: text"]
    for (_, one), (_, other) in zip(first, second):
        assert one.size == (96, 96)
        assert one.mode == "RGB"
        assert one.tobytes() == other.tobytes()
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
