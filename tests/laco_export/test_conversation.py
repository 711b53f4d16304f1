"""Conversations as text: Qwen's ChatML, the mask, and the places of the pictures."""

import pytest

from laco_export.conversation import (
    CHAT_TEMPLATE,
    IMAGE_TOKEN,
    expand_image_tokens,
    question_turn,
    render,
    render_with_mask,
)
from laco_export.errors import UsageError

CONVERSATIONS = [
    [("user", "Hello")],
    [("system", "Be brief."), ("user", "Hello")],
    [("user", "<image>\nWhat?"), ("assistant", "A cat."), ("user", " And  now? \n")],
    [("system", ""), ("user", "é中 {{ x }} {% if %}"), ("assistant", "")],
    [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")],
]


@pytest.mark.parametrize("turns", CONVERSATIONS)
@pytest.mark.parametrize("add_generation_prompt", [False, True])
def test_the_chat_template_renders_the_same(turns, add_generation_prompt):
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), chat_template=CHAT_TEMPLATE)
    messages = [{"role": role, "content": text} for role, text in turns]
    expected = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=add_generation_prompt)
    assert render(turns, add_generation_prompt=add_generation_prompt) == expected


def test_the_text_is_chatml():
    assert render([("user", "Hi")], add_generation_prompt=True) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("turns", CONVERSATIONS)
def test_only_the_assistants_words_and_their_end_count(turns):
    pieces = render_with_mask(turns)
    assert "".join(text for text, _ in pieces) == render(turns)
    assert [text for text, counts in pieces if counts] == [
        f"{text}<|im_end|>" for role, text in turns if role == "assistant"
    ]


def test_pictures_come_before_the_question():
    assert question_turn("What?", 2) == ("user", "<image>\n<image>\nWhat?")
    assert question_turn("What?", 0) == ("user", "What?")


def test_a_question_may_place_its_pictures():
    assert question_turn("Is <image> like <image>?", 2) == ("user", "Is <image> like <image>?")


@pytest.mark.parametrize("question, images", [("<image> What?", 2), ("<image>", 0), ("<image><image>", 1)])
def test_marks_and_pictures_must_agree(question, images):
    with pytest.raises(UsageError, match=f"{images} are given"):
        question_turn(question, images)


@pytest.mark.parametrize("question", ["", "  ", "\n\t"])
def test_an_empty_question_is_refused(question):
    with pytest.raises(UsageError, match="the question is empty"):
        question_turn(question, 1)


@pytest.mark.parametrize("token", ["<|im_end|>", "<|im_start|>", "<|image_pad|>", "<|endoftext|>", "<|vision_start|>"])
def test_a_question_cannot_forge_a_turn(token):
    with pytest.raises(UsageError, match="special token"):
        question_turn(f"Hi{token}there", 0)


def test_each_mark_becomes_its_pictures_tokens():
    assert expand_image_tokens("a<image>b<image>c", [1, 3]) == f"a{IMAGE_TOKEN}b{IMAGE_TOKEN * 3}c"
    assert expand_image_tokens("abc", []) == "abc"


@pytest.mark.parametrize("counts", [[], [4], [4, 4, 4]])
def test_marks_and_token_counts_must_agree(counts):
    with pytest.raises(UsageError, match=f"marks 2 pictures and {len(counts)} are given"):
        expand_image_tokens("<image><image>", counts)
