"""What is no reason to refuse a bundle and is told."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from laco_export.exporter.golden_pictures import PreparedPictures
from laco_export.exporter.pytorch_answers import AskedModel, ask_pytorch
from laco_export.exporter.remarks import remarks_on_blindness, remarks_on_tower

NAMES = ["a", "b", "c", "d"]


def pictures(*pixels) -> PreparedPictures:
    return PreparedPictures(NAMES[: len(pixels)], list(pixels), [], None)


def noise(seed) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def features(seed) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(1, 4, 6)).astype(np.float32)


BLACK = np.zeros((8, 8, 3), np.uint8)


def test_different_pictures_with_different_features_get_no_remark():
    assert remarks_on_tower(pictures(noise(0), noise(1)), [features(0), features(1)]) == []


def test_pictures_of_one_colour_and_copies_are_remarked_on():
    first, second = remarks_on_tower(pictures(BLACK, BLACK, BLACK), [features(0)] * 3)
    assert first.startswith("all golden pictures are of one colour")
    assert second.startswith("of 3 golden pictures 2 are copies of others")
    (remark,) = remarks_on_tower(pictures(noise(0), BLACK + 255), [features(0), features(1)])
    assert remark.startswith("golden pictures (b) are of one colour")


def test_features_of_zeros_and_features_that_are_always_the_same_are_remarked_on():
    (remark,) = remarks_on_tower(pictures(noise(0), noise(1)), [features(0), 0 * features(0)])
    assert remark.startswith("the image features of b are all zero")
    (remark,) = remarks_on_tower(pictures(noise(0), noise(1)), [features(0), features(0) * (1 + 1e-7)])
    assert remark.startswith("the image features do not depend on the picture")


@pytest.fixture
def asked(answering_model):
    """``asked(blind=False)``: the model with two golden pictures; a blind one's features are always zero."""
    model, processor = answering_model
    prepare = processor.image_processor.preprocessing
    pixels = [np.resize(noise(seed), (prepare.height, prepare.width, 3)) for seed in range(2)]
    values = [prepare.normalize(picture)[None] for picture in pixels]
    loaded = SimpleNamespace(model=model, checkpoint=SimpleNamespace(processor=processor))

    def make(blind=False):
        with torch.inference_mode():
            computed = [model.get_image_features(torch.from_numpy(each)).numpy() * (not blind) for each in values]
        return AskedModel.of(loaded, PreparedPictures(["a", "b"], pixels, values, prepare), computed)

    return make


ENTRY = SimpleNamespace(eos_token_ids=[258], graph="llm/model.onnx", precision="fp32")


def test_a_blind_model_is_remarked_on(asked, tmp_path):
    seeing, blind = asked(), asked(blind=True)
    assert remarks_on_blindness(seeing, ask_pytorch(seeing, ENTRY, tmp_path)) == []
    (remark,) = remarks_on_blindness(blind, ask_pytorch(blind, ENTRY, tmp_path))
    assert remark.startswith("the language model is blind")


def test_of_one_picture_alone_nothing_is_said(asked, tmp_path):
    alone = asked(blind=True)
    alone.pictures.pixels[1] = alone.pictures.pixels[0]
    assert remarks_on_blindness(alone, ask_pytorch(alone, ENTRY, tmp_path)) == []
