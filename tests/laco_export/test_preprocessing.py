"""Pictures: transformers' bytes, every colour mode upright, and refusals that say why."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from laco_export.errors import ConfigError, ImageError
from laco_export.preprocessing import ImagePreprocessing, load_image

CLIP = ImagePreprocessing(
    56, 56, "shortest_edge", (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
)
PADDED = ImagePreprocessing(56, 56, "pad", CLIP.mean, CLIP.std)
SIGLIP = ImagePreprocessing(56, 42, "squash", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def noise(width, height, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


SIZES = [
    (56, 56),
    (57, 56),
    (56, 57),
    (55, 200),
    (333, 17),
    (4, 4),
    (640, 480),
    (4, 250),
    (5, 320),
    (320, 5),
    (700, 11),
]


@pytest.mark.parametrize("size", [*SIZES, *((7 + 13 * i % 190, 5 + 29 * i % 170) for i in range(40))])
def test_the_same_bytes_as_transformers_clip(size):
    from transformers import CLIPImageProcessor

    picture = noise(*size)
    expected = CLIPImageProcessor(**CLIP.to_dict())(picture, return_tensors="np")["pixel_values"][0]
    actual = CLIP(picture)
    assert actual.dtype == np.float32
    assert actual.tobytes() == np.ascontiguousarray(expected).tobytes()


@pytest.mark.parametrize("size", SIZES)
def test_the_same_bytes_as_transformers_siglip(size):
    from transformers import SiglipImageProcessor

    picture = noise(*size)
    expected = SiglipImageProcessor(**SIGLIP.to_dict())(picture, return_tensors="np")["pixel_values"][0]
    assert SIGLIP(picture).tobytes() == np.ascontiguousarray(expected).tobytes()


@pytest.mark.parametrize("size", SIZES)
def test_the_same_bytes_as_transformers_llava_with_padding(size):
    from transformers import LlavaImageProcessor

    picture = noise(*size)
    expected = LlavaImageProcessor(**PADDED.to_dict())(picture, return_tensors="np")["pixel_values"][0]
    assert PADDED(picture).tobytes() == np.ascontiguousarray(expected).tobytes()


def test_padding_a_sliver_costs_no_memory(monkeypatch):
    made = []
    new = Image.new
    monkeypatch.setattr(Image, "new", lambda mode, size, *rest: made.append(size) or new(mode, size, *rest))
    picture = noise(300, 30_000)
    made.clear()
    shown = PADDED.resize_and_crop(picture)
    assert made == [(8192, 8192)]
    assert (shown[:, :24] == [122, 116, 104]).all()  # the mean colour, cut off
    assert (shown[:, 28] != [122, 116, 104]).any()


@pytest.mark.parametrize("size", [(3, 1200), (1200, 3), (4, 999)])
def test_slivers_give_the_middle_of_the_whole(size):
    # Smooth, so that the order in which the axes are resized does not show (on noise it does, by up to 20 levels).
    small = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    picture = Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)
    scaled = int(56 * max(size) / min(size))
    whole = picture.resize((56, scaled) if size[0] < size[1] else (scaled, 56), Image.Resampling.BICUBIC)
    left, top = (whole.width - 56) // 2, (whole.height - 56) // 2
    expected = np.asarray(whole)[top : top + 56, left : left + 56].astype(int)
    assert np.abs(CLIP.resize_and_crop(picture).astype(int) - expected).max() <= 2


def test_extreme_slivers_cost_no_memory():
    for size in [(1, 5_000_000), (5_000_000, 1)]:
        pixels = CLIP.resize_and_crop(Image.new("RGB", size, (10, 200, 30)))
        assert pixels.shape == (56, 56, 3)
        assert (pixels == (10, 200, 30)).all()


def test_one_pixel_is_a_picture():
    assert (CLIP.resize_and_crop(Image.new("RGB", (1, 1), (1, 2, 3))) == (1, 2, 3)).all()


@pytest.mark.parametrize("preprocessing", [CLIP, SIGLIP, PADDED])
def test_the_configuration_survives_its_file(preprocessing):
    assert ImagePreprocessing.from_dict(preprocessing.to_dict()) == preprocessing


@pytest.mark.parametrize(
    "changes",
    [{"resample": 2}, {"rescale_factor": 1.0}, {"crop_size": {"height": 28, "width": 28}}, {"image_std": [1, 1, 0]}],
)
def test_configurations_that_mean_something_else_are_refused(changes):
    with pytest.raises(ConfigError):
        ImagePreprocessing.from_dict(CLIP.to_dict() | changes)


def test_a_missing_field_is_named():
    config = CLIP.to_dict()
    del config["image_mean"]
    with pytest.raises(ConfigError, match="image_mean"):
        ImagePreprocessing.from_dict(config)


def saved(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return file


def two_colours(first, second, mode="RGB"):
    """Left half ``first``, right half ``second``, 8 x 4 pixels."""
    image = Image.new(mode, (8, 4), first)
    image.paste(second, (4, 0, 8, 4))
    return image


RED, BLUE = (255, 0, 0), (0, 0, 255)


def corners(image):
    assert image.mode == "RGB"
    return image.getpixel((0, 0)), image.getpixel((image.width - 1, image.height - 1))


def close(actual, expected, tolerance):
    return all(np.abs(np.subtract(g, e)).max() <= tolerance for g, e in zip(actual, expected))


@pytest.mark.parametrize(
    "image, kind, expected, tolerance",
    [
        (two_colours(RED, BLUE), "PNG", (RED, BLUE), 0),
        (two_colours(RED, BLUE).convert("P", palette=Image.Palette.ADAPTIVE), "PNG", (RED, BLUE), 0),
        (two_colours(RED, BLUE).convert("P", palette=Image.Palette.ADAPTIVE), "GIF", (RED, BLUE), 0),
        (two_colours(RED, BLUE).convert("CMYK"), "JPEG", (RED, BLUE), 12),
        (two_colours(RED, BLUE).convert("CMYK"), "TIFF", (RED, BLUE), 2),
        (two_colours(50, 200, "L"), "PNG", ((50,) * 3, (200,) * 3), 0),
        (two_colours(0, 1, "1"), "PNG", ((0,) * 3, (255,) * 3), 0),
        (two_colours((50, 255), (200, 0), "LA"), "PNG", ((50,) * 3, (255,) * 3), 0),
        (two_colours((255, 0, 0, 255), (0, 0, 255, 0), "RGBA"), "PNG", (RED, (255, 255, 255)), 0),
        (two_colours((255, 0, 0, 255), (0, 0, 255, 128), "RGBA"), "PNG", (RED, (127, 127, 255)), 1),
        (Image.fromarray(np.repeat([[0, 65535]], 4, 0).astype(np.uint16)), "PNG", ((0,) * 3, (255,) * 3), 0),
        (Image.fromarray(np.repeat([[257, 32896]], 4, 0).astype(np.uint16)), "TIFF", ((1,) * 3, (128,) * 3), 0),
        (Image.fromarray(np.repeat([[0.0, 0.5]], 4, 0).astype(np.float32)), "TIFF", ((0,) * 3, (128,) * 3), 0),
    ],
    ids=lambda value: f"{value.mode}" if isinstance(value, Image.Image) else str(value)[:12],
)
def test_every_colour_mode_becomes_rgb(image, kind, expected, tolerance):
    assert close(corners(load_image(saved(image, kind))), expected, tolerance)


def test_a_transparent_palette_entry_shows_white():
    image = two_colours(RED, BLUE).convert("P", palette=Image.Palette.ADAPTIVE, colors=2)
    transparent = image.getpixel((7, 3))
    assert corners(load_image(saved(image, "PNG", transparency=transparent))) == (RED, (255, 255, 255))


# What must be done to a stored picture so that it stands upright, by EXIF orientation (TIFF 6.0, tag 274).
UPRIGHT = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_exif_orientation_is_applied(orientation, kind):
    stored, exif = noise(7, 4), Image.Exif()
    exif[0x0112] = orientation
    expected = stored if UPRIGHT[orientation] is None else stored.transpose(UPRIGHT[orientation])
    actual = load_image(saved(stored, kind, exif=exif))
    assert actual.size == expected.size
    assert np.array_equal(np.asarray(actual), np.asarray(expected))


def test_the_largest_picture_is_refused_from_its_header(tmp_path, monkeypatch):
    path = tmp_path / "large.png"
    Image.new("RGB", (100, 50)).save(path)
    assert load_image(path, max_pixels=5000).size == (100, 50)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("the picture was decoded"))
    from PIL import ImageFile

    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("the picture was decoded"))
    with pytest.raises(ImageError) as caught:
        load_image(path, max_pixels=4999)
    assert "100 x 50 = 5,000 pixels" in str(caught.value)
    assert "--max-pixels" in str(caught.value)


def test_a_bomb_beyond_pillows_own_limit_is_refused_by_ours():
    # A header that promises 60000 x 60000 pixels; Pillow alone would raise its DecompressionBombError.
    data = bytearray(saved(Image.new("L", (1, 1)), "BMP").getvalue())
    data[18:26] = (60000).to_bytes(4, "little") * 2
    with pytest.raises(ImageError, match="too large"):
        load_image(io.BytesIO(bytes(data)))
    assert Image.MAX_IMAGE_PIXELS is not None


def test_a_picture_above_pillows_limit_is_read_when_allowed():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
        assert load_image(saved(Image.new("L", (30, 30)), "PNG")).size == (30, 30)


def test_what_is_no_picture_is_refused(tmp_path):
    text = tmp_path / "notes.png"
    text.write_text("not a picture")
    cases = {text: "is not a picture", tmp_path: "is a folder", tmp_path / "none.png": "does not exist"}
    cases[Path(os.devnull)] = "is not a regular file"
    (tmp_path / "empty.png").touch()
    cases[tmp_path / "empty.png"] = "is not a picture"
    for path, message in cases.items():
        with pytest.raises(ImageError, match=message):
            load_image(path)


def test_postscript_is_refused(tmp_path):
    path = tmp_path / "program.eps"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n8 8 scale\nshowpage\n%%EOF\n")
    with pytest.raises(ImageError, match="is not a picture"):
        load_image(path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "PPM"])
def test_damaged_files_are_refused_or_read_but_never_crash(kind, capfd):
    data = saved(noise(31, 24), kind).getvalue()
    generator = np.random.default_rng(0)
    for part in (1, 2, 3):  # truncated within the pixels
        with pytest.raises(ImageError):
            load_image(io.BytesIO(data[: len(data) * part // 4]))
    for _ in range(100):
        flipped = bytearray(data)
        flipped[generator.integers(0, len(data))] ^= 1 << generator.integers(0, 8)
        try:
            assert load_image(io.BytesIO(bytes(flipped)), max_pixels=10**6).mode == "RGB"
        except ImageError:
            pass
    assert capfd.readouterr().err == ""


def test_an_unreadable_file_says_so(tmp_path, monkeypatch):
    path = tmp_path / "secret.png"
    Image.new("RGB", (2, 2)).save(path)

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(PermissionError):
        load_image(path)


def test_an_icon_is_refused_before_the_picture_inside_is_decoded(tmp_path):
    Image.new("RGB", (64, 64)).save(tmp_path / "bomb.ico")
    with pytest.raises(ImageError, match="not a picture"):
        load_image(tmp_path / "bomb.ico", max_pixels=16)
