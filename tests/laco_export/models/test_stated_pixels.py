"""Pictures are prepared as the encoder's own folder states, by transformers' image processors of several classes."""

import dataclasses
import json

import pytest
from transformers import CLIPImageProcessor, SiglipImageProcessor, ViTImageProcessor

from laco_export.errors import CheckpointError
from laco_export.models import LacoImageProcessor
from laco_export.models.encoders.loading import stated_preprocessing
from laco_export.models.stated_pixels import check_stated_pixels
from laco_export.preprocessing import ImagePreprocessing

MEAN, STD, EXACT = (0.48, 0.45, 0.41), (0.27, 0.26, 0.28), {"height": 56, "width": 56}
SQUASHED = ImagePreprocessing(56, 56, "squash", MEAN, STD)
CROPPED = dataclasses.replace(SQUASHED, resize="shortest_edge")
STATED = {
    "clip": (CLIPImageProcessor(size={"shortest_edge": 56}, crop_size=EXACT, image_mean=MEAN, image_std=STD), CROPPED),
    "siglip": (SiglipImageProcessor(size=EXACT, image_mean=MEAN, image_std=STD), SQUASHED),
    "vit": (ViTImageProcessor(size=EXACT, resample=3, image_mean=MEAN, image_std=STD), SQUASHED),
}


def processor(preprocessing):
    return LacoImageProcessor(**preprocessing.to_dict())


@pytest.mark.parametrize("name", STATED)
def test_what_a_file_states_is_done(tmp_path, name):
    theirs, preprocessing = STATED[name]
    theirs.save_pretrained(tmp_path)
    for resize in ("squash", "shortest_edge"):  # which an original layout's file may say otherwise
        check_stated_pixels(tmp_path, processor(dataclasses.replace(preprocessing, resize=resize)))


@pytest.mark.parametrize(
    "change", [{"std": STD[::-1]}, {"mean": MEAN[::-1]}, {"height": 42, "width": 42}, {"std": (0.27, 0.26, 0.2801)}]
)
@pytest.mark.parametrize("name", STATED)
def test_what_was_misread_is_told(tmp_path, name, change):
    theirs, preprocessing = STATED[name]
    theirs.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"would not be prepared as '.*preprocessor_config\.json' states"):
        check_stated_pixels(tmp_path, processor(dataclasses.replace(preprocessing, **change)))


def test_what_is_written_misread_is_told(tmp_path, monkeypatch):
    theirs, preprocessing = STATED["siglip"]
    theirs.save_pretrained(tmp_path)
    write = ImagePreprocessing.to_dict
    monkeypatch.setattr(ImagePreprocessing, "to_dict", lambda self: {**write(self), "image_std": list(self.std[::-1])})
    with pytest.raises(CheckpointError, match="would not be prepared"):
        check_stated_pixels(tmp_path, processor(preprocessing))


def test_a_filter_that_is_left_to_the_class_is_that_classes(tmp_path):
    """ViT's is bilinear."""
    STATED["vit"][0].save_pretrained(tmp_path)
    path = tmp_path / "preprocessor_config.json"
    fields = json.loads(path.read_text())
    del fields["resample"]
    path.write_text(json.dumps(fields))
    with pytest.raises(CheckpointError, match="would not be prepared"):
        check_stated_pixels(tmp_path, processor(SQUASHED))


@pytest.mark.parametrize("fields", [None, {}, {"image_processor_type": "SomeoneElses"}], ids=str)
def test_a_folder_that_names_no_class_states_nothing(tmp_path, fields):
    if fields is not None:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(fields))
    check_stated_pixels(tmp_path, processor(SQUASHED))


def test_the_real_encoder(real_part):
    folder = real_part("encoder") / "224"
    check_stated_pixels(folder, processor(stated_preprocessing(folder)[0]))
