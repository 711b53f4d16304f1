"""JPEGs decoded smaller: never below twice what they are resized to, and the same place, upright and tiled."""

import io

import numpy as np
import pytest
from PIL import Image

from laco_export.preprocessing import ImagePreprocessing, load_image
from laco_export.scaled_decoding import OVERSAMPLING, full_size, resize
from laco_export.tiling import Tiling

MEAN = (0.5, 0.5, 0.5)


def photograph(width, height, mode="RGB"):
    """Smooth shapes with fine grain over them: what a small scale keeps and what it averages away."""
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((width, height), 3)
    grain = random.integers(-20, 21, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(coarse) + grain, 0, 255).astype(np.uint8)).convert(mode)


def jpeg(image, orientation=1, **options):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    image.save(file, "JPEG", quality=92, exif=exif, **options)
    return file.getvalue()


def both(data, prepare):
    """The input as uint8 from the whole picture and from the one that was decoded for it, and the latter."""
    whole = load_image(io.BytesIO(data))
    scaled = load_image(io.BytesIO(data), resized_to=prepare.resized_to)
    assert full_size(scaled) == whole.size
    return prepare.resize_and_crop(whole).astype(int), prepare.resize_and_crop(scaled).astype(int), scaled


@pytest.mark.parametrize("kind", ["shortest_edge", "squash"])
@pytest.mark.parametrize(("size", "scale"), [((1803, 1210), 8), ((900, 611), 4), ((460, 301), 2), ((300, 260), 1)])
def test_the_scale_is_the_smallest_that_keeps_twice_the_input(kind, size, scale):
    prepare = ImagePreprocessing(70, 70, kind, MEAN, MEAN)
    expected, actual, scaled = both(jpeg(photograph(*size)), prepare)
    assert scaled.size == tuple(-(-length // scale) for length in size)
    assert min(scaled.size) >= OVERSAMPLING * 70
    assert scale == 8 or min(length // (2 * scale) for length in size) < OVERSAMPLING * 70, "the next one is too small"
    difference = np.abs(expected - actual)
    assert difference.mean() < 0.6 and difference.max() <= 8  # of 255, of grain that another filter averages


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_picture_keeps_its_place(orientation):
    """1803 and 1210 are no multiples of eight: the last block stands for three and for two pixels, on any side."""
    prepare = ImagePreprocessing(70, 70, "squash", MEAN, MEAN)
    expected, actual, scaled = both(jpeg(photograph(1803, 1210), orientation), prepare)
    assert scaled.size == ((226, 152) if orientation < 5 else (152, 226))
    assert np.abs(expected - actual).mean() < 0.6


def test_the_area_is_the_wholes_and_not_that_of_the_padded_blocks():
    """Taken whole, a picture of 129 pixels at 1/8 would be stretched by 17 blocks for 16.125."""
    ramp = np.linspace(0, 255, 129).round().astype(np.uint8)
    data = jpeg(Image.fromarray(np.repeat(np.tile(ramp, (129, 1))[..., None], 3, -1)))
    prepare = ImagePreprocessing(8, 8, "squash", MEAN, MEAN)
    expected, actual, scaled = both(data, prepare)
    stretched = np.asarray(scaled.resize((8, 8), Image.Resampling.BICUBIC)).astype(int)
    assert scaled.size == (17, 17)
    assert np.abs(expected - actual).mean() < 1 < np.abs(expected - stretched).mean()


def test_tiles_are_those_of_the_whole_picture():
    tiling, prepare = Tiling(tile=28, max_rows=3, max_columns=3), ImagePreprocessing(28, 28, "squash", MEAN, MEAN)
    data = jpeg(photograph(1201, 803))
    whole, scaled = load_image(io.BytesIO(data)), load_image(io.BytesIO(data), resized_to=tiling.resized_to)
    assert scaled.size == (301, 201), "a quarter: the grid takes 84 x 57, and an eighth has 151 x 101"
    expected, actual = tiling.split(whole, prepare), tiling.split(scaled, prepare)
    assert expected.shape == actual.shape == (10, 3, 28, 28)
    assert np.abs(expected - actual).mean() * 0.5 * 255 < 1.0


@pytest.mark.parametrize("mode", ["1", "L", "I;16", "F"])
def test_grey_stays_grey_and_gives_the_same_input(mode):
    grey = photograph(211, 97, "L")
    values = np.asarray(grey)
    stored = {
        "1": lambda: grey.convert("1"),
        "L": lambda: grey,
        "I;16": lambda: Image.fromarray(values.astype(np.uint16) * 257),
        "F": lambda: Image.fromarray(values.astype(np.float32) / 255),
    }[mode]()
    file = io.BytesIO()
    stored.save(file, "TIFF")
    expected, actual, scaled = both(file.getvalue(), ImagePreprocessing(70, 70, "shortest_edge", MEAN, MEAN))
    assert scaled.mode == "L"
    assert np.array_equal(expected, actual)


def test_other_formats_are_the_same_to_the_bit():
    prepare = ImagePreprocessing(70, 70, "squash", MEAN, MEAN)
    for kind, mode in (("PNG", "RGB"), ("PNG", "RGBA"), ("PNG", "P"), ("WEBP", "RGB"), ("TIFF", "CMYK")):
        file = io.BytesIO()
        photograph(700, 500, mode).save(file, kind)
        expected, actual, _ = both(file.getvalue(), prepare)
        assert np.array_equal(expected, actual), (kind, mode)


def test_a_picture_that_was_cropped_since_stands_for_itself():
    prepare = ImagePreprocessing(70, 70, "squash", MEAN, MEAN)
    scaled = load_image(io.BytesIO(jpeg(photograph(1803, 1210))), resized_to=prepare.resized_to)
    part = scaled.crop((0, 0, 100, 80))
    assert full_size(part) == (100, 80)
    assert np.array_equal(np.asarray(resize(part, (50, 40))), np.asarray(part.resize((50, 40), 3)))
