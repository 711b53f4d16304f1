"""Pictures as transformers' image processors prepare them, and faults that both sides of a comparison would share."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from laco_export.errors import ExportError
from laco_export.exporter.golden_pictures import golden_pictures, prepare_pictures
from laco_export.exporter.witnesses import check_prepared_pictures
from laco_export.preprocessing import ImagePreprocessing
from laco_export.tiling import Tiling

CLIP = ImagePreprocessing(
    56, 56, "shortest_edge", (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
)
SIGLIP = ImagePreprocessing(56, 56, "squash", (0.5, 0.5, 0.5), (0.5, 0.4, 0.3))
PADDED = dataclasses.replace(CLIP, resize="pad")
TILINGS = {"none": None, "3 x 3": Tiling(56, 3, 3, 4), "two": Tiling(56, grids=((1, 2), (2, 1)))}
TILINGS["of the closest shape"] = Tiling(56, rule="aspect_ratio", max_tiles=6)


@pytest.fixture
def checked(tmp_path):
    """``checked(preprocessing, tiling=…, images=…, stated=…)``: the checks, against a file that states ``stated``."""

    def check(preprocessing, tiling=None, images=None, stated=None):
        fields = {"image_processor_type": "LacoImageProcessor", **(stated or preprocessing).to_dict()}
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(fields))
        images = images or golden_pictures([], 112)
        prepared = prepare_pictures(images, preprocessing, (56, 56))
        return check_prepared_pictures(tmp_path, images, prepared, tiling)

    return check


@pytest.mark.parametrize("preprocessing", [CLIP, SIGLIP, PADDED], ids=["clip", "siglip", "padded"])
@pytest.mark.parametrize("tiling", TILINGS)
def test_the_same_to_the_last_bit(checked, preprocessing, tiling):
    checks = checked(preprocessing, TILINGS[tiling])
    assert [check.watched for check in checks] == ["pixel values", "tiles"][: 1 + (TILINGS[tiling] is not None)]
    assert [check.cases for check in checks] == [4, 2][: len(checks)]
    assert all(check.max_abs == 0 for check in checks)


@pytest.mark.parametrize("size", [(700, 3), (3, 5), (1, 1), (100, 57)])
@pytest.mark.parametrize("preprocessing", [CLIP, SIGLIP], ids=["clip", "siglip"])
def test_pictures_of_any_shape(checked, preprocessing, size):
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    assert checked(preprocessing, TILINGS["3 x 3"], [("mine.png", Image.fromarray(noise))])


@pytest.mark.parametrize(
    "change",
    [
        {"std": CLIP.std[::-1]},
        {"mean": CLIP.mean[::-1]},
        {"mean": (0.48, 0.4578275, 0.40821073)},
        {"resize": "squash"},
    ],
    ids=str,
)
def test_a_file_that_states_another_preprocessing_is_told(checked, change):
    images = [("wide.png", golden_pictures([], 112)[1][1].resize((112, 60)))]
    with pytest.raises(ExportError, match="pixel values are not those of transformers'"):
        checked(dataclasses.replace(CLIP, **change), images=images, stated=CLIP)


def columns_for_rows(self, image, preprocessing, split=Tiling.split):
    base, *tiles = split(self, image, preprocessing)
    rows, columns = self.choose(image.height, image.width)
    order = np.arange(rows * columns).reshape(rows, columns).T.reshape(-1)
    return np.stack([base, *(tiles[index] for index in order)])


def base_last(self, image, preprocessing, split=Tiling.split):
    return np.roll(split(self, image, preprocessing), -1, axis=0)


@pytest.mark.parametrize("fault", [columns_for_rows, base_last])
def test_tiles_in_another_order_are_told(checked, monkeypatch, fault):
    monkeypatch.setattr(Tiling, "split", fault)
    with pytest.raises(ExportError, match="tiles are not those of transformers'"):
        checked(CLIP, Tiling(56, 3, 3, 9, grids=((2, 3), (3, 2))))
