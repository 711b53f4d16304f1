"""A chat format's fields, read and written, and conversations in formats that are not ChatML."""

import json
from dataclasses import replace

import pytest
from tokenizers import AddedToken

from laco_export.chat_format import CHATML, ChatFormat, RoleFormat
from laco_export.conversation import (
    expand_image_tokens,
    forging_tokens,
    frame_marks,
    question_turn,
    render,
    render_with_mask,
    special_pattern,
)
from laco_export.errors import ConfigError, UsageError

VICUNA = ChatFormat(
    system=RoleFormat("", " "),
    user=RoleFormat("USER: ", " "),
    assistant=RoleFormat("ASSISTANT: ", " "),
    generation_header="ASSISTANT:",
    answer_end="</s>",
    default_system=None,
    begin_token="<s>",
    image_token="<image>",
)
FOLDED = replace(
    VICUNA,
    system=RoleFormat("<<SYS>>", "<</SYS>>"),
    user=RoleFormat("[INST] ", " [/INST]", strips_words=True),
    assistant=RoleFormat(" ", " </s>"),
    generation_header="",
    system_in_user=True,
    begin="<s>",
    begin_token="",
)
FRAMES = replace(CHATML, image_before="<img>", image_after="</img>", frame_before="Frame{number}: ", frame_between="\n")


@pytest.mark.parametrize("chat_format", [CHATML, VICUNA, FOLDED, FRAMES])
def test_a_format_is_read_as_it_was_written(chat_format):
    assert ChatFormat.from_dict(json.loads(json.dumps(chat_format.to_dict()))) == chat_format


def test_a_field_that_is_missing_is_chatmls():
    assert ChatFormat.from_dict({}) == CHATML
    assert ChatFormat.from_dict({"begin": "<s>", "of a later version": 1}) == replace(CHATML, begin="<s>")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"user": None}, r"chat_format\.user"),
        ({"user": {"before": "", "after": 3}}, r"chat_format\.user\.after"),
        ({"user": {"before": ""}}, r"chat_format\.user\.after(.|\n)*missing"),
        ({"system_in_user": "yes"}, r"chat_format\.system_in_user"),
        ({"begin": "\x00"}, r"chat_format\.begin"),
        ({"begin": "x" * 5000}, r"chat_format\.begin"),
        ({"image_token": ""}, "needs image_token"),
        ({"answer_end": ""}, "needs answer_end"),
        ({"system": None}, "no default_system"),
        ([], "chat_format"),
    ],
)
def test_a_field_of_another_type_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        ChatFormat.from_dict(fields)


TURNS = [("user", "<image>\n Hi "), ("assistant", "Ho"), ("user", "So?")]


def test_a_prompt_without_special_tokens():
    assert render(TURNS, add_generation_prompt=True, chat_format=VICUNA) == (
        "USER: <image>\n Hi  ASSISTANT: Ho USER: So? ASSISTANT:"
    )


def test_a_system_line_inside_the_first_question():
    turns = [("system", "Be brief."), *TURNS]
    assert render(turns, add_generation_prompt=True, chat_format=FOLDED) == (
        "<s>[INST] <<SYS>>Be brief.<</SYS>><image>\nHi [/INST] Ho </s>[INST] So? [/INST]"
    )


def test_an_answer_is_trained_to_end_where_its_template_does_not_end_it():
    pieces = render_with_mask(TURNS[:2], VICUNA)
    assert pieces == [("USER: <image>\n Hi  ", False), ("ASSISTANT:", False), (" Ho</s>", True), (" ", False)]
    pieces = render_with_mask(TURNS[:2], FOLDED)
    assert pieces == [("<s>", False), ("[INST] <image>\nHi [/INST]", False), (" Ho </s>", True)]


def test_an_answer_is_trained_behind_what_it_is_asked_with():
    other_header = replace(CHATML, assistant=RoleFormat("<|im_start|>assistant \n", "<|im_end|>"))
    assert render_with_mask(TURNS[:2], other_header)[2:] == [("<|im_start|>assistant\n", False), ("Ho<|im_end|>", True)]
    assert "assistant \nHo" in render(TURNS, chat_format=other_header)


def test_pictures_and_frames_have_the_formats_text_around_them():
    assert expand_image_tokens("a<image>b", [2], FRAMES) == "a<img><|image_pad|><|image_pad|></img>b"
    assert frame_marks(2, FRAMES) == "Frame1: <image>\nFrame2: <image>"
    assert frame_marks(2) == "<image><image>"


def test_pictures_before_the_words_stand_as_the_format_has_them():
    in_line = replace(CHATML, picture_line_end="", words_before="\n")
    text = render([question_turn("What?", 2)], chat_format=in_line)
    assert text.endswith("<|im_start|>user\n<image><image>\nWhat?<|im_end|>\n")
    text = render([question_turn("Is <image> it?", 1)], chat_format=in_line)
    assert text.endswith("<|im_start|>user\n\nIs <image> it?<|im_end|>\n")


def test_which_tokens_would_forge_a_turn():
    added = {
        0: AddedToken("<s>", special=True),
        1: AddedToken("</s>", special=True),
        2: AddedToken("<image>", special=False),
        3: AddedToken("<filename>", special=True),
        4: AddedToken("<|im_end|>", special=True),
        5: AddedToken("USER", special=False),
        6: AddedToken("  ", special=False),
        7: AddedToken("<end>", special=True),
    }
    assert forging_tokens(added, VICUNA, {7}) == ["<s>", "</s>", "<image>", "<|im_end|>", "<end>"]
    assert forging_tokens(added) == ["<|im_end|>"]


def test_a_mark_is_no_token_and_a_token_no_mark():
    special = special_pattern(["<image>", "</s>"])
    assert question_turn("Is <image> it?", 1, special=special)[1] == "Is <image> it?"
    with pytest.raises(UsageError, match="special token"):
        question_turn("Is </s> it?", 0, special=special)
    with pytest.raises(UsageError, match="marks 1 pictures and 0"):
        question_turn("Is <image> it?", 0, special=special)
    question_turn("<|im_end|> is no token here", 0, special=special_pattern([]))
