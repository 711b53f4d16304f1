"""Flat pictures and near-copies are told from pictures that show something of their own."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance

from laco_calibration.errors import CalibrationError
from laco_calibration.options import CalibrationOptions
from laco_calibration.pipeline import calibrate
from laco_calibration.source.picture_set import find_pictures
from laco_calibration.source.variety import THUMBNAIL, Thumbnails, different_pictures, is_flat, thumbnail


@pytest.fixture(scope="module")
def photograph(photographs) -> Image.Image:
    return Image.open(sorted(photographs.iterdir())[0]).convert("RGB").resize((640, 480))


def looked_at(folder, bundle):
    picture_set = find_pictures([folder])
    pictures, _ = different_pictures(picture_set, picture_set.pictures, bundle.manifest.image_preprocessing)
    return picture_set, [picture.path.name for picture in pictures]


def test_another_size_quality_or_light_is_a_copy(photograph, fp32_bundle, tmp_path):
    photograph.save(tmp_path / "a.png")
    photograph.resize((320, 240)).save(tmp_path / "b.png")
    photograph.save(tmp_path / "c.jpg", quality=30)
    ImageEnhance.Brightness(photograph).enhance(1.03).save(tmp_path / "d.png")
    picture_set, left = looked_at(tmp_path, fp32_bundle)
    assert left == ["a.png"]
    assert picture_set.copies == {str(tmp_path / name): str(tmp_path / "a.png") for name in ("b.png", "c.jpg", "d.png")}


def test_other_pictures_are_not(photographs, fp32_bundle, tmp_path):
    """Crops of a few photographs, and two pages that differ by what is written alone."""
    for name, words in (("one.png", "The quick brown fox"), ("two.png", "jumps over lazy dogs")):
        page = Image.new("RGB", (160, 120), "white")
        ImageDraw.Draw(page).text((20, 50), words, fill="black")
        page.save(tmp_path / name)
    for path in photographs.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    picture_set, left = looked_at(tmp_path, fp32_bundle)
    assert len(left) == 22 and not picture_set.copies and not picture_set.flat


def test_one_colour_is_flat_whatever_its_noise(fp32_bundle, tmp_path):
    random = np.random.default_rng(0)
    for index, level in enumerate((0, 128, 250)):
        noisy = np.clip(level + random.normal(0, 3, (96, 128, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(tmp_path / f"{index}.jpg", quality=50)
    picture_set, left = looked_at(tmp_path, fp32_bundle)
    assert not left and len(picture_set.flat) == 3
    assert not is_flat(thumbnail(np.linspace(0, 20, 96 * 128 * 3).reshape(96, 128, 3).astype(np.uint8)))


def test_the_nearest_of_many_is_the_original():
    random = np.random.default_rng(0)
    every = random.uniform(0, 255, (150, THUMBNAIL, THUMBNAIL, 3)).astype(np.float32)
    thumbnails = Thumbnails()
    assert thumbnails.copy_of(every[0]) is None
    for thumb in every:
        thumbnails.add(thumb)
    assert [thumbnails.copy_of(thumb + 1) for thumb in every] == list(range(150))
    assert thumbnails.copy_of(random.uniform(0, 255, every[0].shape).astype(np.float32)) is None


@pytest.mark.parametrize("method", ["auto", "max"])
def test_a_set_of_one_colour_or_of_one_scene_is_refused(method, photograph, ort_folder, tmp_path):
    for index in range(20):
        (tmp_path / "black").mkdir(exist_ok=True)
        (tmp_path / "one scene").mkdir(exist_ok=True)
        Image.new("RGB", (64 + index, 64)).save(tmp_path / "black" / f"{index}.png")
        photograph.save(tmp_path / "one scene" / f"{index}.jpg", quality=40 + index)
    for folder, told in (
        ("black", "20 of one colour"),
        ("one scene", "1 that can be read; left out 19 nearly equal to another"),
    ):
        options = CalibrationOptions(
            ort_folder, images=[tmp_path / folder], target="ort-cpu", method=method, output=tmp_path / "out"
        )
        with pytest.raises(CalibrationError) as raised:
            calibrate(options)
        assert told in str(raised.value), str(raised.value)
        assert not (tmp_path / "out").exists()
