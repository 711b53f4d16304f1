"""Samples in published chat formats: the tokens of the whole text, and labels on the answers and what ends them."""

import pytest
from chat_formats import TEMPLATES, TOKENIZERS
from PIL import Image

from laco_export.chat_format import CHATML
from laco_export.conversation import render_with_mask
from laco_export.errors import LacoError
from laco_export.models.chat_template import chat_format_of
from laco_export.models.processing import LacoImageProcessor, LacoProcessor
from laco_export.preprocessing import ImagePreprocessing
from laco_training.data.samples import IGNORED, SampleEncoder

SPECIAL = (
    *("<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|image_pad|>"),
    *("<start_of_turn>", "<end_of_turn>", "<image>", "<IMG_CONTEXT>", "<img>", "</img>", "<|video_pad|>"),
)
QUESTIONS = ["<image>\nWhat is it?", "Dé jà, 中 (10%)!\n\nIsn't it <image>?"]
ANSWERS = ["The box is red.", "No, don't ask:\n- e.g. these"]
ENDS = {"llava-next-mistral": "</s>", "llama-2": " </s>", "llama-3": "<|eot_id|>", "gemma": "<end_of_turn>"}
STARTS = dict.fromkeys(("llava-1.5", "vicuna", "llava-next-mistral", "llama-2"), " ")


class Picture:
    def picture(self, name):
        return Image.new("RGB", (28, 28), name)


def processor_of(kind, name=None):
    """A processor with the named template's format, else ChatML's; a picture is three tokens."""
    around = None if kind == "byte level" or name is None else "<s> $A"
    tokenizer = TOKENIZERS[kind]("<s>", "</s>", *SPECIAL, around=around)
    pictures = {"image_before": "<img>", "image_after": "</img>"} if name == "internvl" else {}
    token = "<IMG_CONTEXT>" if name == "internvl" else "<image>"
    chat_format = chat_format_of(TEMPLATES[name], tokenizer, image_token=token, **pictures) if name else CHATML
    pixels = LacoImageProcessor(**ImagePreprocessing(28, 28, "squash", (0.5,) * 3, (0.5,) * 3).to_dict())
    return LacoProcessor(pixels, tokenizer, image_seq_length=3, token_grid=(1, 3), chat_format=chat_format)


def entry_of(questions, answers, **fields):
    turns = [turn for pair in zip(questions, answers) for turn in zip(("human", "gpt"), pair)]
    return {"conversations": [{"from": who, "value": said} for who, said in turns], **fields}


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("name", TEMPLATES)
def test_a_sample_is_the_whole_text_and_counts_the_answers(kind, name):
    processor = processor_of(kind, name)
    chat_format, tokenizer = processor.chat_format, processor.tokenizer
    sample, _ = SampleEncoder(processor)(entry_of(QUESTIONS, ANSWERS, image=["red", "blue"]), Picture())
    turns = [turn for pair in zip(QUESTIONS, ANSWERS) for turn in zip(("user", "assistant"), pair)]
    text = "".join(text for text, _ in render_with_mask(turns, chat_format))
    shown = chat_format.image_before + 3 * chat_format.image_token + chat_format.image_after
    whole = tokenizer(text.replace("<image>", shown), add_special_tokens=bool(chat_format.begin_token))["input_ids"]
    ids, labels = sample["input_ids"].tolist(), sample["labels"].tolist()
    assert ids == whole
    counted = tokenizer.decode([token for token, label in zip(ids, labels) if label != IGNORED])
    end = ENDS.get(name, "<|im_end|>" if "<|im_end|>" in chat_format.assistant.after else "</s>")
    start = STARTS.get(name, "")
    expected = "".join(f"{start}{answer}{end}" for answer in ANSWERS)
    assert counted.replace("\u2581", " ").strip() == expected.strip()
    assert [label for label in labels if label != IGNORED] == [t for t, label in zip(ids, labels) if label != IGNORED]


@pytest.mark.parametrize("answer", ["Red.", "\n\n- one\n", "  Two  ", "'s not", "\n \n x"])
def test_chatml_is_tokenised_as_it_always_was(answer):
    """Piece by piece, each of which begins or ends in a special token or a newline."""
    processor = processor_of("byte level")
    encode = lambda text: processor.tokenizer(text, add_special_tokens=False)["input_ids"]
    sample, _ = SampleEncoder(processor)(entry_of(["<image>\n Why?\n", "So"], [answer, "x"], image="red"), Picture())
    pieces = [
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n",
        "<|im_start|>user\n",
        3 * "<|image_pad|>",
        "\n Why?\n<|im_end|>\n",
        "<|im_start|>assistant\n",
        f"{answer}<|im_end|>",
        "\n",
        "<|im_start|>user\nSo<|im_end|>\n",
        "<|im_start|>assistant\n",
        "x<|im_end|>",
        "\n",
    ]
    assert sample["input_ids"].tolist() == [token for piece in pieces for token in encode(piece)]


@pytest.mark.parametrize("name", ["llava-1.5", "llama-3"])
def test_a_caption_alone_begins_as_a_prompt_does(name):
    processor = processor_of("older sentence piece", name)
    sample, _ = SampleEncoder(processor, plain=True)(entry_of(["<image>\nSay"], ["A box"], image="red"), Picture())
    image = processor.image_token_id
    assert sample["input_ids"].tolist()[:4] == [processor.tokenizer.bos_token_id, image, image, image]
    counted = [token for token in sample["labels"].tolist() if token != IGNORED]
    assert processor.tokenizer.decode(counted).strip() == "A box"


@pytest.mark.parametrize(("name", "token"), [("llava-1.5", "</s>"), ("llama-3", "<|eot_id|>"), ("internvl", "</img>")])
def test_a_special_token_in_a_text_is_odd_and_stays_one(name, token):
    processor, odd = processor_of("byte level", name), set()
    encode, index = SampleEncoder(processor), processor.tokenizer.convert_tokens_to_ids(token)
    counted = []
    for answer, found_odd in (("so", set()), (f"so{token}on", odd)):
        sample, _ = encode(entry_of(["<image>\nWhy?"], [answer], image="red"), Picture(), found_odd)
        counted.append(sample["labels"].tolist().count(index))
    assert odd == {"special token in its text"} and counted[1] == counted[0] + 1


def test_the_name_of_the_image_token_stands_for_no_picture():
    processor = processor_of("byte level", "llava-1.5")
    with pytest.raises(LacoError, match="holds <image>, which stands for a picture"):
        SampleEncoder(processor)(entry_of(["<image>\nWhy?"], ["in HTML <image> is no tag"], image="red"), Picture())


def test_a_mark_is_a_picture_where_the_image_token_has_its_name():
    processor = processor_of("byte level", "llava-1.5")
    sample, _ = SampleEncoder(processor)(entry_of(["Is <image> it?"], ["yes"], image="red"), Picture())
    assert sample["input_ids"].tolist().count(processor.image_token_id) == 3
    assert processor.image_token == "<image>"


def test_a_system_line_needs_its_place():
    entry = entry_of(["Why?"], ["so"])
    entry["conversations"].insert(0, {"from": "system", "value": "Be brief."})
    with pytest.raises(LacoError, match="no place for a system line"):
        SampleEncoder(processor_of("byte level", "gemma"))(entry, Picture())
