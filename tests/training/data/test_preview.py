"""The first sample with its mask in colour."""

import pytest

from laco_training.data import DataError, open_dataset
from laco_training.data.preview import COUNTED_STYLE, PICTURE_STYLE, preview


def styled(text, style):
    return [text.plain[span.start : span.end] for span in text.spans if span.style == style]


def test_what_counts_is_coloured(write_json, make_processor, make_turns):
    entries = [{"id": "x", "image": "a.png", "conversations": make_turns("<image>\nWhat?", "a cat", "Sure?", "yes")}]
    dataset = open_dataset(write_json(entries), make_processor(tiling={"tile": 56}))
    text = preview(dataset)
    assert styled(text, COUNTED_STYLE) == ["10 count for the loss", "a cat<|im_end|>", "yes<|im_end|>"]
    assert styled(text, PICTURE_STYLE) == ["[14 image tokens]"]
    assert "sample 'x': " in text.plain and "a picture of 60 x 40 pixels: 3 tiles" in text.plain
    assert "<|im_start|>user\n[14 image tokens]\nWhat?<|im_end|>" in text.plain


def test_a_sample_that_cannot_be_shown(write_json, processor, make_turns):
    dataset = open_dataset(
        write_json([{"id": "x", "image": "no", "conversations": make_turns("<image>", "a")}]), processor
    )
    with pytest.raises(DataError, match=r"sample 'x' of '.*' cannot be used: '.*no' does not exist"):
        preview(dataset)
