"""What published chat templates write is what their formats write; a template that is more than that is refused."""

import json
from dataclasses import replace

import pytest
from chat_formats import TEMPLATES, named_tokens

from laco_export.chat_format import CHATML, ChatFormat
from laco_export.conversation import CHAT_TEMPLATE, render
from laco_export.errors import CheckpointError
from laco_export.models.chat_template import begin_token_of, chat_format_of, stated_chat_template
from laco_export.models.written_template import chat_template_of


@pytest.fixture(scope="module")
def tokenizer():
    return named_tokens("<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<image>")


def format_of(name, tokenizer):
    return chat_format_of(TEMPLATES[name], tokenizer, image_token="<IMG_CONTEXT>" if name == "internvl" else "<image>")


# Written by hand; each of them as the family's publisher documents it.
PROMPTS = {
    "qwen": (
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n<image>\nHi<|im_end|>\n<|im_start|>assistant\nHo<|im_end|>\n"
        "<|im_start|>user\nSo?<|im_end|>\n<|im_start|>assistant\n"
    ),
    "llava-onevision": (
        "<|im_start|>user <image>\nHi<|im_end|><|im_start|>assistant \nHo<|im_end|>"
        "<|im_start|>user \nSo?<|im_end|><|im_start|>assistant\n"
    ),
    "llava-1.5": "USER: <image>\nHi ASSISTANT: Ho USER: So? ASSISTANT:",
    "vicuna": "A chat between a user and an assistant. USER: <image>\nHi ASSISTANT: Ho</s>USER: So? ASSISTANT:",
    "llava-next-mistral": "[INST] <image>\nHi [/INST] Ho</s> [INST] So? [/INST]",
    "llama-2": "<s>[INST] <image>\nHi [/INST] Ho </s><s>[INST] So? [/INST]",
    "llama-3": (
        "<s><|start_header_id|>user<|end_header_id|>\n\n<image>\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nHo<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nSo?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    ),
    "internvl": (
        "<|im_start|>user\n<image>\nHi<|im_end|>\n<|im_start|>assistant\nHo<|im_end|>\n"
        "<|im_start|>user\nSo?<|im_end|>\n<|im_start|>assistant\n"
    ),
    "gemma": (
        "<s><start_of_turn>user\n<image>\nHi<end_of_turn>\n<start_of_turn>model\nHo<end_of_turn>\n"
        "<start_of_turn>user\nSo?<end_of_turn>\n<start_of_turn>model\n"
    ),
}
TALK = [("user", "<image>\nHi"), ("assistant", "Ho"), ("user", "So?")]


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_published_template_becomes_a_format(tokenizer, name):
    chat_format = format_of(name, tokenizer)
    assert render(TALK, add_generation_prompt=True, chat_format=chat_format) == PROMPTS[name]
    assert ChatFormat.from_dict(json.loads(json.dumps(chat_format.to_dict()))) == chat_format


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_template_that_is_written_of_a_format_gives_the_format(tokenizer, name):
    chat_format = format_of(name, tokenizer)
    again = chat_format_of(chat_template_of(chat_format), tokenizer, image_token=chat_format.image_token)
    assert again == chat_format


def test_lacos_own_template_is_chatml(tokenizer):
    pictures = {"image_token": CHATML.image_token}
    assert chat_format_of(CHAT_TEMPLATE, tokenizer, **pictures) == CHATML
    assert chat_format_of(chat_template_of(CHATML), tokenizer, **pictures) == CHATML


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("vicuna", {"answer_end": "</s>", "default_system": "A chat between a user and an assistant."}),
        ("llava-1.5", {"answer_end": "</s>", "generation_header": "ASSISTANT:", "picture_line_end": "\n"}),
        ("llava-onevision", {"answer_end": "<|im_end|>", "picture_line_end": "", "words_before": "\n"}),
        ("llama-2", {"system_in_user": True, "begin": "", "begin_token": ""}),
        ("llama-3", {"answer_end": "<|eot_id|>", "begin": "<s>"}),
        ("gemma", {"system": None, "answer_end": "<end_of_turn>"}),
    ],
)
def test_the_fields_of_a_format(tokenizer, name, fields):
    chat_format = format_of(name, tokenizer)
    assert {field: getattr(chat_format, field) for field in fields} == fields


REFUSED = {
    "a date": (TEMPLATES["llama-3"].replace("{{ bos_token }}", "{{ strftime_now('%d %b %Y') }}"), "day's date"),
    "words in capitals": (TEMPLATES["qwen"].replace("m.content", "m.content.upper()"), "would follow"),
    "only the left end stripped": (TEMPLATES["qwen"].replace("m.content", "m.content.lstrip()"), "would follow"),
    "words that decide": (
        TEMPLATES["qwen"].replace("m.content", "(m.content + ('?' if '%' in m.content else ''))"),
        "would follow",
    ),
    "turns that are counted": (TEMPLATES["qwen"].replace("m.role +", "m.role + loop.index|string +"), "should end it"),
    "the system line in the last question": (
        "{% set system = messages[0].content if messages[0].role == 'system' else '' %}"
        "{% for m in messages if m.role != 'system' %}{% if m.role == 'user' %}[INST] "
        "{% if loop.last and system %}{{ system + '\n\n' }}{% endif %}{{ m.content }} [/INST]"
        "{% else %}{{ m.content }}</s>{% endif %}{% endfor %}",
        "in a conversation of 4 turns it writes",
    ),
    "no jinja": ("{% for m in messages %}{{ m.content }}", "not jinja's"),
    "one that fails": ("{{ raise_exception('never') }}", "cannot be rendered(.|\n)*never"),
    "one that runs on": ("{% for i in range(10 ** 9) %}x{% endfor %}", "cannot be rendered"),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_template_that_is_more_than_turns_is_refused(tokenizer, reason):
    template, message = REFUSED[reason]
    with pytest.raises(CheckpointError, match=message):
        chat_format_of(template, tokenizer, image_token="<image>")


def test_an_answer_that_nothing_ends_is_refused():
    with pytest.raises(CheckpointError, match="nothing ends an answer"):
        chat_format_of(TEMPLATES["llava-1.5"], named_tokens(None, None, "<image>"), image_token="<image>")


def test_the_first_token_of_a_tokenizer(tokenizer):
    assert begin_token_of(tokenizer) == ""
    first = named_tokens("<s>", "</s>", "<image>", around="<s> $A")
    assert begin_token_of(first) == "<s>"
    vicuna = chat_format_of(TEMPLATES["llava-1.5"], first, image_token="<image>")
    assert (vicuna.begin, vicuna.begin_token) == ("", "<s>")
    llama = chat_format_of(TEMPLATES["llama-3"], first, image_token="<image>")
    assert (llama.begin, llama.begin_token) == ("<s>", "")  # the template writes it, and transformers not again
    earlier = chat_format_of(TEMPLATES["llama-2"], first, image_token="<image>")
    assert (earlier.user.before, earlier.begin_token) == ("<s>[INST] ", "")  # before each question, the first too
    with pytest.raises(CheckpointError, match="at most one token"):
        begin_token_of(named_tokens("<s>", "</s>", around="<s> $A </s>"))


def test_where_a_folders_template_stands(tmp_path):
    assert stated_chat_template(tmp_path) is None
    by_name = [{"name": "tools", "template": "no"}, {"name": "default", "template": "of several"}]
    for name, stated, expected in [
        ("tokenizer_config.json", by_name, "of several"),
        ("tokenizer_config.json", "the tokenizer's", "the tokenizer's"),
        ("processor_config.json", "the processor's", "the processor's"),
        ("chat_template.json", "a file of its own", "a file of its own"),
    ]:
        (tmp_path / name).write_text(json.dumps({"chat_template": stated}))
        assert stated_chat_template(tmp_path) == expected
    (tmp_path / "chat_template.jinja").write_text("jinja")
    assert stated_chat_template(tmp_path) == "jinja"


def test_a_template_that_is_no_text(tmp_path):
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": 3}))
    with pytest.raises(CheckpointError, match="is no text"):
        stated_chat_template(tmp_path)


def test_a_format_that_is_changed_is_told_apart(tokenizer):
    chat_format = replace(format_of("llava-1.5", tokenizer), words_before=" ")
    assert chat_format_of(chat_template_of(chat_format), tokenizer, image_token="<image>") != format_of(
        "llava-1.5", tokenizer
    )
