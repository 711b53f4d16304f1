"""A processor in another chat format: what it stores, and a video's frames as the engines write them."""

import json
from dataclasses import replace

import pytest
from chat_formats import named_tokens
from PIL import Image

from laco_export.chat_format import CHATML
from laco_export.conversation import CHAT_TEMPLATE
from laco_export.errors import ConfigError
from laco_export.models import LacoImageProcessor, LacoProcessor
from laco_export.models.written_template import chat_template_of
from laco_export.preprocessing import ImagePreprocessing

INTERNVL = replace(
    CHATML,
    default_system=None,
    image_token="<IMG_CONTEXT>",
    image_before="<img>",
    image_after="</img>",
    frame_before="Frame{number}: ",
    frame_between="\n",
)
SPECIAL = ("<|im_start|>", "<|im_end|>", "<|image_pad|>", "<IMG_CONTEXT>", "<img>", "</img>", "<|endoftext|>")


def processor_of(chat_format):
    pixels = LacoImageProcessor(**ImagePreprocessing(28, 28, "squash", (0.5,) * 3, (0.5,) * 3).to_dict())
    tokenizer = named_tokens(None, "<|im_end|>", *SPECIAL)
    return LacoProcessor(pixels, tokenizer, image_seq_length=2, token_grid=(1, 2), chat_format=chat_format)


def test_chatml_is_not_written(tmp_path):
    processor = processor_of(None)
    processor.save_pretrained(tmp_path)
    assert "chat_format" not in json.loads((tmp_path / "processor_config.json").read_text())
    assert (processor.chat_format, processor.chat_template) == (CHATML, CHAT_TEMPLATE)
    assert LacoProcessor.from_pretrained(tmp_path).chat_format == CHATML


def test_another_format_is_written_with_its_template(tmp_path):
    processor_of(INTERNVL).save_pretrained(tmp_path)
    loaded = LacoProcessor.from_pretrained(tmp_path)
    assert (loaded.chat_format, loaded.chat_template) == (INTERNVL, chat_template_of(INTERNVL))
    assert loaded.image_token == "<IMG_CONTEXT>"


def test_a_format_whose_image_token_the_tokenizer_lacks():
    with pytest.raises(ConfigError, match="no special token <picture>"):
        processor_of(replace(CHATML, image_token="<picture>"))


def test_the_frames_of_a_video_are_named():
    processor, frames = processor_of(INTERNVL), [Image.new("RGB", (28, 28), colour) for colour in ("red", "blue")]
    inputs = processor(text="<video>\nWhat? <IMG_CONTEXT>", images=frames[:1], videos=[frames])
    shown = "<img><IMG_CONTEXT><IMG_CONTEXT></img>"
    assert processor.tokenizer.decode(inputs["input_ids"][0]) == f"Frame1: {shown}\nFrame2: {shown}\nWhat? {shown}"
    assert inputs["pixel_values"].shape == (3, 3, 28, 28)
