import base64
import io

import numpy as np
import pytest
from PIL import Image

from laco_engines.report.thumbnails import SIDES, PagePictures
from laco_export.errors import ImageError


@pytest.fixture
def pictures(tmp_path, make_picture):
    paths = [tmp_path / f"{seed}.png" for seed in range(3)]
    for seed, (path, size) in enumerate(zip(paths, ((800, 400), (300, 600), (40, 30)))):
        make_picture(seed, size).save(path)
    return paths


def decoded(url: str) -> Image.Image:
    head, _, content = url.partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


def test_pictures_keep_their_shape_and_small_ones_their_size(pictures):
    side, urls = PagePictures(pictures).within(10**9)
    assert side == SIDES[0] == 384
    assert [decoded(urls[path]).size for path in pictures] == [(384, 192), (192, 384), (40, 30)]


def test_a_smaller_page_has_smaller_pictures_of_the_same_content(pictures):
    thumbnails = PagePictures(pictures)
    whole = sum(map(len, thumbnails.within(10**9)[1].values()))
    side, urls = thumbnails.within(whole // 3)
    assert side < SIDES[0] and sum(map(len, urls.values())) <= whole // 3
    for path in pictures:
        small = decoded(urls[path]).convert("RGB")
        assert max(small.size) == min(side, max(Image.open(path).size))
        expected = np.asarray(Image.open(path).resize(small.size, Image.Resampling.BOX), np.float32)
        assert np.abs(np.asarray(small, np.float32) - expected).mean() < 6  # JPEG, twice, of smooth colours


def test_even_the_smallest_may_be_too_large(pictures):
    assert PagePictures(pictures).within(100) is None


def test_what_cannot_be_read_is_all_named(pictures, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "cut.png").write_bytes(pictures[0].read_bytes()[:300])
    with pytest.raises(ImageError) as error:
        PagePictures([*pictures, tmp_path / "text.png", tmp_path / "cut.png", tmp_path / "text.png"])
    assert "2 pictures" in error.value.failed
    assert "text.png" in error.value.given and "cut.png" in error.value.given


def test_a_picture_that_is_asked_about_often_is_read_once(pictures):
    calls = []
    PagePictures(pictures * 3, lambda: calls.append(1))
    assert len(calls) == 3
