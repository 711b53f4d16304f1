"""Which tokens count, token by token, against masks written by hand; the same inputs as inference; what is cut."""

import re

import numpy as np
import pytest
import torch
from PIL import Image

from laco_export.conversation import render
from laco_training.data.conversations import turns_of
from laco_training.data.errors import DataError
from laco_training.data.pictures import Pictures
from laco_training.data.samples import IGNORED, SampleEncoder, TokenRun, cut

SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
SPECIAL = re.compile(r"(<\|[a-z_]+\|>)")


def by_hand(tokenizer, text, images=()):
    """Tokens and labels of a prompt where «…» counts and each ▣ is a picture of so many tokens; a letter is a token."""
    ids, labels, counts, images = [], [], False, iter(images)
    for piece in re.split("([«»▣])", text):
        if piece in "«»" and piece:
            counts = piece == "«"
            continue
        if piece == "▣":
            tokens = tokenizer.convert_tokens_to_ids(["<|image_pad|>"] * next(images))
        else:
            tokens = []
            for part in SPECIAL.split(piece):
                special = SPECIAL.fullmatch(part)
                tokens += tokenizer.convert_tokens_to_ids([part] if special else [c.translate(BYTES) for c in part])
        ids += tokens
        labels += tokens if counts else [IGNORED] * len(tokens)
    assert next(images, None) is None
    return ids, labels


BYTES = {ord(" "): "Ġ", ord("\n"): "Ċ"}  # how byte-level BPE writes them


def assert_sample(sample, tokenizer, text, images=()):
    ids, labels = by_hand(tokenizer, text, images)
    assert sample["input_ids"].tolist() == ids
    assert sample["labels"].tolist() == labels


@pytest.fixture
def folder(tmp_path, make_picture):
    for number in range(3):
        make_picture(number).save(tmp_path / f"{number}.png")
    make_picture(5, (110, 56)).save(tmp_path / "wide.png")
    frames = [make_picture(number) for number in range(40)]
    frames[0].save(tmp_path / "clip.gif", save_all=True, append_images=frames[1:])
    return Pictures(tmp_path)


def test_the_mask_of_a_plain_caption(processor, folder, make_turns):
    entry = {"id": "1", "image": "0.png", "conversations": make_turns("<image>\nWhat is it?", "a cat")}
    sample, truncated = SampleEncoder(processor, plain=True)(entry, folder)
    assert_sample(sample, processor.tokenizer, "▣\n«a cat»", [4])
    assert sample["pixel_values"].shape == (1, 3, 56, 56) and not truncated


def test_the_mask_of_a_picture_and_several_turns(processor, folder, make_turns):
    entry = {"image": "0.png", "conversations": make_turns("<image>\nWhat is it?", "a cat", "Sure?", "yes")}
    sample, _ = SampleEncoder(processor)(entry, folder)
    assert_sample(
        sample,
        processor.tokenizer,
        SYSTEM + "<|im_start|>user\n▣\nWhat is it?<|im_end|>\n<|im_start|>assistant\n«a cat<|im_end|>»\n"
        "<|im_start|>user\nSure?<|im_end|>\n<|im_start|>assistant\n«yes<|im_end|>»\n",
        [4],
    )


def test_the_mask_of_a_tiled_picture(make_processor, folder, make_turns):
    processor = make_processor(tiling={"tile": 56})
    entry = {"image": "wide.png", "conversations": make_turns("<image>\nWhat is it?", "a cat")}
    sample, _ = SampleEncoder(processor)(entry, folder)
    # 110 x 56 pixels: the base tile and 1 x 2 tiles of 2 x 2 tokens; two rows of 4 tokens and a newline, none padded.
    assert_sample(
        sample,
        processor.tokenizer,
        SYSTEM + "<|im_start|>user\n▣\nWhat is it?<|im_end|>\n<|im_start|>assistant\n«a cat<|im_end|>»\n",
        [4 + 2 * (4 + 1)],
    )
    assert sample["pixel_values"].shape == (3, 3, 56, 56)
    assert sample["image_sizes"].tolist() == [[56, 110]]
    untiled, _ = SampleEncoder(processor, tiled=False)(entry, folder)
    assert untiled["pixel_values"].shape == (1, 3, 56, 56)


def test_the_mask_of_several_pictures(make_processor, folder, make_turns):
    entry = {
        "image": ["0.png", "1.png", "2.png"],
        "conversations": make_turns("<image>\n<image> differ?", "yes", "And <image>?", "no"),
    }
    for processor in (make_processor(), make_processor(tiling={"tile": 56})):  # of several, none is tiled
        sample, _ = SampleEncoder(processor)(entry, folder)
        assert_sample(
            sample,
            processor.tokenizer,
            SYSTEM + "<|im_start|>user\n▣\n▣ differ?<|im_end|>\n<|im_start|>assistant\n«yes<|im_end|>»\n"
            "<|im_start|>user\nAnd ▣?<|im_end|>\n<|im_start|>assistant\n«no<|im_end|>»\n",
            [4, 4, 4],
        )
        assert sample["pixel_values"].shape == (3, 3, 56, 56)


def test_several_pictures_are_prepared_as_one_that_is_not_tiled(processor, tmp_path, make_turns):
    """By the encoder's own preprocessing: of a wide picture the centre square, whatever stands beside it."""
    wide = Image.new("RGB", (112, 56), "white")
    wide.paste("black", (28, 0, 84, 56))
    wide.save(tmp_path / "wide.png")
    pictures, encoder = Pictures(tmp_path), SampleEncoder(processor)
    alone, _ = encoder({"image": "wide.png", "conversations": make_turns("<image>?", "a")}, pictures)
    both, _ = encoder({"image": ["wide.png"] * 2, "conversations": make_turns("<image><image>?", "a")}, pictures)
    assert torch.equal(both["pixel_values"], alone["pixel_values"].repeat(2, 1, 1, 1))
    assert len(both["pixel_values"].flatten(2).unique(dim=2).flatten()) == 2 * 3  # black alone: one value a channel


@pytest.mark.parametrize("mark", ["<image>", "<video>"])
def test_the_mask_of_a_video(processor, folder, make_turns, mark):
    entry = {"video": "clip.gif", "conversations": make_turns(f"{mark}\nWhat happens?", "it moves")}
    sample, _ = SampleEncoder(processor, max_frames=3)(entry, folder)
    assert_sample(
        sample,
        processor.tokenizer,
        SYSTEM + "<|im_start|>user\n▣▣▣\nWhat happens?<|im_end|>\n<|im_start|>assistant\n«it moves<|im_end|>»\n",
        [4, 4, 4],
    )
    assert sample["image_sizes"].tolist() == [[-1, -1]] * 3


def test_the_mask_of_text_alone_and_a_system_line(processor, folder):
    entry = {
        "conversations": [
            {"from": "system", "value": "Be brief."},
            {"from": "user", "value": "1+1?"},
            {"from": "assistant", "value": "2"},
        ]
    }
    sample, _ = SampleEncoder(processor)(entry, folder)
    assert_sample(
        sample,
        processor.tokenizer,
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n1+1?<|im_end|>\n"
        "<|im_start|>assistant\n«2<|im_end|>»\n",
    )
    assert "pixel_values" not in sample


@pytest.mark.parametrize(
    ("media", "asked", "answer", "shown", "images"),
    [
        ({}, "How does <video> work?", "Use <video src>; an <image> is SVG.", None, []),
        ({}, "<video> and <image> differ", "yes", None, []),
        ({"image": "0.png"}, "<image>\nAs <video>?", "<image> or <video>", "▣\nAs <video>?", [4]),
        ({"image": "0.png", "video": []}, "<image>\nWhat?", "it", "▣\nWhat?", [4]),
        ({"video": ["0.png", "1.png"]}, "<image>\nWhat?", "an <image>", "▣▣\nWhat?", [4, 4]),
        ({"video": ["clip.gif", "clip.gif"]}, "<image>\n<image>\nSame?", "y", "▣▣\n▣▣\nSame?", [4] * 4),
    ],
)
def test_only_what_shows_something_is_a_mark(processor, folder, make_turns, media, asked, answer, shown, images):
    sample, _ = SampleEncoder(processor, max_frames=2)({**media, "conversations": make_turns(asked, answer)}, folder)
    assert_sample(
        sample,
        processor.tokenizer,
        SYSTEM + f"<|im_start|>user\n{shown or asked}<|im_end|>\n<|im_start|>assistant\n«{answer}<|im_end|>»\n",
        images,
    )


def test_a_plain_caption_may_name_a_mark(processor, folder, make_turns):
    entry = {"image": "0.png", "conversations": make_turns("<image>\nWhat is it?", "an <image> tag")}
    sample, _ = SampleEncoder(processor, plain=True)(entry, folder)
    assert_sample(sample, processor.tokenizer, "▣\n«an <image> tag»", [4])


def test_an_empty_plain_caption(processor, folder, make_turns):
    entry = {"image": "0.png", "conversations": make_turns("<image>\nWhat is it?", " \n")}
    with pytest.raises(DataError, match="its caption is empty"):
        SampleEncoder(processor, plain=True)(entry, folder)


def opened(entry, folder):
    names = entry.get("image", [])
    return [Image.open(folder.root / name) for name in ([names] if isinstance(names, str) else names)]


@pytest.mark.parametrize(
    ("entry", "tiles", "image_tokens"),
    [
        ({"image": "wide.png", "conversations": ["<image>\nWhat?", "this", "More?", "no"]}, 3, 14),
        ({"image": ["0.png", "1.png"], "conversations": ["<image><image>\nWhat?", "this"]}, 2, 8),
        ({"video": "clip.gif", "conversations": ["<video>\nWhat?", "this"]}, 32, 128),
    ],
)
def test_training_reads_what_inference_reads(make_processor, make_turns, folder, entry, tiles, image_tokens):
    processor = make_processor(tiling={"tile": 56})
    entry = {**entry, "conversations": make_turns(*entry["conversations"])}
    sample, _ = SampleEncoder(processor)(entry, folder)
    videos = [folder.video(entry["video"], 1000)] if "video" in entry else None  # all frames: the processor samples
    inputs = processor(images=opened(entry, folder), videos=videos, text=render(turns_of(entry)), return_tensors="pt")
    assert sample["input_ids"].tolist() == inputs["input_ids"][0].tolist()
    assert torch.equal(sample["pixel_values"], inputs["pixel_values"])
    assert torch.equal(sample["image_sizes"], inputs["image_sizes"])
    assert len(sample["pixel_values"]) == tiles
    assert int((sample["input_ids"] == processor.image_token_id).sum()) == image_tokens


def test_a_video_is_at_most_32_frames_of_196_tokens(make_processor, folder, make_turns):
    processor = make_processor(kind="siglip", grid=(27, 27))  # so400m's grid: 27 x 27 merge into 14 x 14
    entry = {"video": "clip.gif", "conversations": make_turns("<video>\nWhat happens?", "it moves")}
    sample, _ = SampleEncoder(processor)(entry, folder)
    assert len(sample["pixel_values"]) == 32
    assert int((sample["input_ids"] == processor.image_token_id).sum()) == 32 * 196


def test_the_model_takes_a_tiled_sample(make_tiny_model, make_processor, folder, make_turns):
    from laco_training.data import Collator

    encoder = SampleEncoder(make_processor(tiling={"tile": 56}))
    entries = [
        {"image": "wide.png", "conversations": make_turns("<image>\nWhat?", "this")},
        {"image": ["0.png", "1.png"], "conversations": make_turns("<image><image>?", "no")},
    ]
    from laco_training.data import BatchNotes

    batch = Collator(0)([{**encoder(entry, folder)[0], "notes": BatchNotes()} for entry in entries])
    batch.pop("notes")
    assert torch.isfinite(make_tiny_model(tiling={"tile": 56})(**batch).loss)


def pictured(count):
    return [TokenRun([9] * 4, False, number) for number in range(count)]


def test_cutting_never_cuts_a_picture():
    question, answer = TokenRun([1, 2, 3], False), TokenRun([5, 6, 7], True)
    runs = [pictured(1)[0], question, answer, *pictured(2)[1:], answer]
    assert cut(runs, 100) == runs
    assert cut(runs, 9) == [*runs[:2], TokenRun([5, 6], True)]
    for length in (10, 11, 12, 13):  # the second picture would be cut
        assert cut(runs, length) == runs[:3]
    assert cut(runs, 14) == runs[:4]
    with pytest.raises(DataError, match=r"no answer fits(.|\n)*17 tokens, 8 of them of pictures(.|\n)*max_length 7"):
        cut(runs, 7)


def test_a_sample_that_is_cut_loses_the_pictures_behind_the_cut(processor, folder, make_turns):
    entry = {"image": ["0.png", "1.png"], "conversations": make_turns("<image>?", "yes", "And <image>?", "no")}
    whole, _ = SampleEncoder(processor)(entry, folder)
    places = (whole["input_ids"] == processor.image_token_id).nonzero()[:, 0].tolist()
    sample, truncated = SampleEncoder(processor, max_length=places[-1])(entry, folder)
    assert truncated
    assert sample["input_ids"].tolist() == whole["input_ids"][: places[4]].tolist()
    assert sample["labels"].tolist() == whole["labels"][: places[4]].tolist()
    assert len(sample["pixel_values"]) == len(sample["image_sizes"]) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conversations": ["<image>", "a"]}, "marks <image> and it names none"),
        ({"conversations": ["<image>\nWhat?", "a"]}, "marks <image> and it names none"),
        ({"image": None, "conversations": ["<image>\nWhat?", "a"]}, "marks <image> and it names none"),
        ({"conversations": ["What?\n<video>", "a"]}, "marks <video> and it names none"),
        ({"image": "none.png", "conversations": ["<image>", "a"]}, r"none\.png' does not exist"),
        ({"video": "none.mp4", "conversations": ["<image>", "a"]}, r"none\.mp4' does not exist"),
        ({"conversations": ["hi", "an <|image_pad|>"]}, r"holds <\|image_pad\|>, which stands for a picture"),
        ({"conversations": ["hi", " \n"]}, "an answer of its conversation is empty"),
        ({"conversations": ["hi", "yo", "so?", ""]}, "an answer of its conversation is empty"),
        ({"conversations": ["only a question"]}, "no answer"),
    ],
)
def test_a_sample_that_cannot_be_used(processor, folder, make_turns, changes, message):
    entry = {**changes, "conversations": make_turns(*changes["conversations"])}
    with pytest.raises(Exception, match=message) as raised:
        SampleEncoder(processor)(entry, folder)
    assert type(raised.value).__module__.startswith("laco_")


@pytest.mark.parametrize(
    ("conversations", "message"),
    [
        (None, "no conversations"),
        ([], "no conversations"),
        ([{"from": "robot", "value": "hi"}], "unknown speaker 'robot'"),
        ([{"from": "human"}], "has no text"),
        ([{"from": "gpt", "value": "hi"}], "no answer"),
        ([{"from": "human", "value": "a"}, {"from": "human", "value": "b"}], "no answer"),
        ([{"from": "human", "value": [{"type": "sound"}]}, {"from": "gpt", "value": "b"}], "has no text"),
        ([{"from": "human", "value": "a"}, {"from": "system", "value": "b"}], "system line stands in mid-conversation"),
    ],
)
def test_a_conversation_that_cannot_be_used(processor, folder, conversations, message):
    with pytest.raises(DataError, match=message):
        SampleEncoder(processor)({"conversations": conversations}, folder)


def test_estimated_tokens(make_processor):
    encoder = SampleEncoder(make_processor(tiling={"tile": 56}), max_length=1000, max_frames=8)
    pictures, lengths = np.array([0, 1, 3, -1, 1]), np.array([50, 50, 50, 50, 5000])
    # one token a byte; 2 x 2 tiles of 2 x 2 tokens with their base tile and four newlines; 4 tokens a tile
    assert encoder.estimated_tokens(pictures, lengths).tolist() == [50, 50 + 24, 50 + 12, 50 + 32, 1000]
