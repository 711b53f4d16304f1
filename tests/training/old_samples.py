"""Which tokens count for the loss, token by token, and what is said of data that cannot be used."""

import json

import pytest
from PIL import Image

from laco_export.models import LacoProcessor
from laco_training.samples import IGNORED, Collator, ConversationDataset, DataError

CONVERSATION = [
    {"from": "human", "value": "<image>\nWhat is it?"},
    {"from": "gpt", "value": "a cat"},
    {"from": "human", "value": "Sure?"},
    {"from": "gpt", "value": "yes"},
]


@pytest.fixture
def processor(tiny_checkpoint):
    return LacoProcessor.from_pretrained(tiny_checkpoint)


@pytest.fixture
def write(tmp_path):
    def make(entries):
        Image.new("RGB", (60, 40), "red").save(tmp_path / "a.png")
        path = tmp_path / "data.json"
        path.write_text(json.dumps(entries))
        return path

    return make


def test_the_mask_of_a_conversation(write, processor, tmp_path):
    path = write([{"id": "1", "image": "a.png", "conversations": CONVERSATION}])
    sample = ConversationDataset(path, tmp_path, processor)[0]
    decode = processor.tokenizer.decode
    image = "<|image_pad|>" * processor.image_seq_length
    assert decode(sample["input_ids"]) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        f"<|im_start|>user\n{image}\nWhat is it?<|im_end|>\n<|im_start|>assistant\na cat<|im_end|>\n"
        "<|im_start|>user\nSure?<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n"
    )
    counted = [int(i) for i in sample["labels"] if i != IGNORED]
    assert decode(counted) == "a cat<|im_end|>yes<|im_end|>"
    for token, label in zip(sample["input_ids"].tolist(), sample["labels"].tolist(), strict=True):
        assert label in (token, IGNORED)
    assert sample["pixel_values"].shape[0] == 1


def test_the_mask_of_stage_1_counts_the_caption_alone(write, processor, tmp_path):
    path = write([{"id": "1", "image": "a.png", "conversations": CONVERSATION[:2]}])
    sample = ConversationDataset(path, tmp_path, processor, plain=True)[0]
    text = processor.tokenizer.decode(sample["input_ids"])
    assert "user" not in text and "What is it" not in text
    counted = processor.tokenizer.decode([int(i) for i in sample["labels"] if i != IGNORED])
    assert counted.replace("<|im_end|>", "").strip() == "a cat"


def test_a_batch(write, processor, tmp_path):
    entries = [
        {"id": "1", "image": "a.png", "conversations": CONVERSATION},
        {
            "id": "2",
            "image": ["a.png", "a.png"],
            "conversations": [{"from": "human", "value": "<image><image>?"}, CONVERSATION[1]],
        },
        {"id": "3", "conversations": CONVERSATION[2:]},
    ]
    dataset = ConversationDataset(write(entries), tmp_path, processor)
    batch = Collator(processor.tokenizer.pad_token_id)([dataset[i] for i in range(3)])
    assert batch["pixel_values"].shape[0] == 3
    assert (batch["input_ids"] == processor.image_token_id).sum(1).tolist() == [
        n * processor.image_seq_length for n in (1, 2, 0)
    ]
    lengths = batch["attention_mask"].sum(1)
    for row in range(3):
        assert (batch["labels"][row, lengths[row] :] == IGNORED).all()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"id": "x", "image": "nowhere.png", "conversations": CONVERSATION}, r"sample 'x'(.|\n)*nowhere\.png"),
        ({"id": "x", "image": "a.png", "conversations": CONVERSATION[2:]}, "0 <image> marks for 1 pictures"),
        ({"id": "x", "image": "a.png"}, "it has no conversations"),
        ({"id": "x", "image": "a.png", "conversations": [{"from": "robot", "value": "hi"}]}, "unknown speaker 'robot'"),
    ],
)
def test_a_broken_sample_is_named(write, processor, tmp_path, entry, message):
    dataset = ConversationDataset(write([entry]), tmp_path, processor)
    with pytest.raises(DataError, match=message):
        dataset[0]


def test_a_broken_file(write, processor, tmp_path):
    path = write([])
    with pytest.raises(DataError, match="not a list of samples"):
        ConversationDataset(path, tmp_path, processor)
    path.write_text("{")
    with pytest.raises(DataError, match="is not JSON"):
        ConversationDataset(path, tmp_path, processor)
    with pytest.raises(DataError, match="there is no data file"):
        ConversationDataset(tmp_path / "none.json", tmp_path, processor)
