"""LLaVA's folders as transformers saved them at different times."""

import json

import pytest
from published_folders import change_json, rename_tensors
from published_parity import CASES, TOLERANCE, difference

from laco_export.errors import CheckpointError
from laco_export.models.published import read_published


def newer_names(name, tensor):
    """As the modules of transformers' classes since 4.52 are called."""
    if name.startswith("language_model.lm_head."):
        return {name.removeprefix("language_model."): tensor}
    return {"model." + name.replace("language_model.model.", "language_model."): tensor}


@pytest.mark.parametrize("family", ["llava", "llava_onevision"])
def test_the_names_of_both_generations_are_read(copied, family):
    theirs, folder = copied(family)
    rename_tensors(folder, newer_names)
    ours = read_published(folder)
    assert difference(theirs, ours.model, ours.processor, CASES["several pictures"]) < TOLERANCE


def test_fields_of_the_hubs_older_folders_change_nothing(copied):
    theirs, folder = copied("llava_next")
    config = theirs.model.config
    vision = {**config.vision_config.to_dict(), "vocab_size": 32000, "projection_dim": 768}
    text = {**config.text_config.to_dict(), "_name_or_path": "lmsys/vicuna-7b-v1.5", "torch_dtype": "float16"}
    changes = {"ignore_index": -100, "vocab_size": 300, "use_image_newline_parameter": True, "image_seq_length": 576}
    change_json(folder / "config.json", vision_config=vision, text_config=text, pad_token_id=259, **changes)
    ours = read_published(folder)
    assert difference(theirs, ours.model, ours.processor, CASES["wide"]) < TOLERANCE


def test_pictures_padded_to_squares_are_so_here(copied):
    from transformers import LlavaImageProcessor

    theirs, folder = copied("llava")
    images = theirs.processor.image_processor
    padded = LlavaImageProcessor(size=images.size, crop_size=images.crop_size, do_pad=True)
    padded.save_pretrained(folder)
    processor = theirs.processor.__class__(
        padded,
        theirs.processor.tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    ours = read_published(folder)
    assert ours.processor.image_processor.preprocessing.resize == "pad"
    theirs_padded = type(theirs)(theirs.family, folder, theirs.model, processor, theirs.image_id, theirs.video_id)
    assert difference(theirs_padded, ours.model, ours.processor, CASES["wide"]) < TOLERANCE
    assert difference(theirs, ours.model, ours.processor, CASES["wide"]) > 100 * TOLERANCE


REFUSED = {
    "a projector without biases": ("llava", {"multimodal_projector_bias": False}, "without biases"),
    "features of several layers": ("llava", {"vision_feature_layer": [-2, -5]}, "several layers"),
    "the CLS token too": ("llava", {"vision_feature_select_strategy": "full"}, "other tokens"),
    "an unknown field": ("llava_next", {"vision_pooling": 4}, "vision_pooling 4"),
    "pinpoints of another size": ("llava_next", {"image_grid_pinpoints": [[56, 100]]}, "two sets"),
    "another way of tiling": ("llava_onevision", {"vision_aspect_ratio": "anyres"}, "anyres_max_N"),
    "a layer that is none": ("llava_onevision", {"vision_feature_layer": 9}, "feature_layer"),
    "a layer that is no number": ("llava", {"vision_feature_layer": "-2"}, "not a whole number"),
    "no tiles at all": ("llava_onevision", {"vision_aspect_ratio": "anyres_max_0"}, "anyres_max_N"),
    "an encoder that is no object": ("llava", {"vision_config": "clip"}, "vision_config in .* not a JSON object"),
    "a language model that is no object": ("llava", {"text_config": [1]}, "text_config in .* not a JSON object"),
    "a family that is no name": ("llava", {"model_type": ["llava"]}, "names no family"),
    "a picture's token that is a word's": ("llava", {"image_token_index": 300}, "a part of words"),
}


@pytest.mark.parametrize("pinpoints", [5, [56, 112], [["56", "112"]], [[56]], "(1x1),...,(6x6)", []])
def test_pinpoints_that_are_no_sizes_are_refused(copied, pinpoints):
    _, folder = copied("llava_next")
    for name in ("config.json", "preprocessor_config.json"):
        change_json(folder / name, image_grid_pinpoints=pinpoints)
    with pytest.raises(CheckpointError, match="not made of its encoder's tiles"):
        read_published(folder)


@pytest.mark.parametrize("value", [False, None])
@pytest.mark.parametrize("step", ["do_normalize", "do_center_crop"])
def test_a_step_that_is_switched_off_is_refused(copied, step, value):
    """Null switches it off in transformers' processors too."""
    _, folder = copied("llava")
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), step: value}))
    with pytest.raises(CheckpointError, match=f"a step is left out(.|\n)*{step} {value}"):
        read_published(folder)


@pytest.mark.parametrize(("family", "case"), [("llava", "wide"), ("llava_next", "several pictures")])
def test_nothing_is_cut_off_where_the_size_is_exact(copied, monkeypatch, family, case):
    """Squashed to the encoder's size, or to tiles of it: ``do_center_crop`` says nothing then."""
    theirs, folder = copied(family)
    stated = {"size": {"height": 56, "width": 56}} if family == "llava" else {}
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **stated, "do_center_crop": False}))
    images = type(theirs.processor.image_processor).from_pretrained(folder)
    monkeypatch.setattr(theirs.processor, "image_processor", images)
    ours = read_published(folder)
    assert difference(theirs, ours.model, ours.processor, CASES[case]) < TOLERANCE


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_be_another_model_is_refused(copied, case):
    family, changes, said = REFUSED[case]
    _, folder = copied(family)
    change_json(folder / "config.json", **changes)
    with pytest.raises(CheckpointError, match=said):
        read_published(folder)
