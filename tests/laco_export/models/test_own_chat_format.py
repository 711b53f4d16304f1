"""A language model that was not taught ChatML keeps the format of its own template, or the reason why not is said."""

import json

import pytest
from chat_formats import LLAMA_3_2, LLAMA_3_TOKENS, TEMPLATES, byte_level, named_tokens, sentence_piece
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from laco_export.conversation import render
from laco_export.errors import CheckpointError
from laco_export.models.own_chat_format import own_chat_format
from laco_export.models.own_vocabulary import own_vocabulary

DEFAULT_DATE = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
ASKED = (
    f"<s><|start_header_id|>system<|end_header_id|>\n\n{DEFAULT_DATE}<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\n?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
)


@pytest.fixture
def folder(tmp_path):
    """``folder(template)``: a folder with that chat template, or none."""

    def make(template):
        if template is not None:
            (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
        return tmp_path

    return make


@pytest.fixture
def llama_3():
    return byte_level("<s>", "</s>", *LLAMA_3_TOKENS, around="<s> $A")


def test_the_days_date_is_the_one_that_the_template_falls_back_to(llama_3, folder):
    chat_format, changes = own_chat_format(llama_3, folder(LLAMA_3_2))
    assert render([("user", "?")], add_generation_prompt=True, chat_format=chat_format) == ASKED
    turns = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Ho"), ("user", " So? ")]
    for spoken in (turns, turns[1:]):
        theirs = llama_3.apply_chat_template(
            [{"role": role, "content": words} for role, words in spoken],
            chat_template=LLAMA_3_2,
            tokenize=False,
            add_generation_prompt=True,
            date_string="26 Jul 2024",
        )
        assert render(spoken, add_generation_prompt=True, chat_format=chat_format) == theirs
    assert any(repr(ASKED) in change for change in changes)
    assert any("the day's date" in change for change in changes)


def test_a_template_without_a_date_says_nothing_of_one(llama_3, folder):
    chat_format, changes = own_chat_format(llama_3, folder(TEMPLATES["llama-3"]))
    assert (chat_format.answer_end, chat_format.default_system) == ("<|eot_id|>", None)
    assert not any("date" in change for change in changes)


@pytest.mark.parametrize(("name", "around"), [("vicuna", "<s> $A"), ("llama-2", "<s> $A"), ("gemma", None)])
def test_other_families(name, around, folder):
    tokenizer = sentence_piece("<s>", "</s>", "<start_of_turn>", "<end_of_turn>", around=around)
    chat_format, _ = own_chat_format(tokenizer, folder(TEMPLATES[name]))
    assert chat_format.image_token == "<|image_pad|>"
    assert chat_format.begin_token == ("<s>" if name == "vicuna" else "")


def test_turn_tokens_that_are_ordinary_text_are_special_again(folder):
    """As in tokenizers that were converted from GGUF files; else an answer would end in another token."""
    stored = json.loads(named_tokens("<s>", "</s>").backend_tokenizer.to_str())
    words, stored["added_tokens"] = stored["model"]["vocab"], []
    words |= {token: len(words) + index for index, token in enumerate(["<s>", "</s>", *LLAMA_3_TOKENS])}
    backend = Tokenizer.from_str(json.dumps(stored))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    assert len(tokenizer("<|eot_id|>")["input_ids"]) > 1
    chat_format, changes = own_chat_format(tokenizer, folder(LLAMA_3_2))
    assert chat_format.answer_end == "<|eot_id|>"
    assert tokenizer("<|eot_id|>")["input_ids"] == [words["<|eot_id|>"]]
    assert changes[0] == f"special again, at their own ids: {', '.join(LLAMA_3_TOKENS)}"


NO_OTHER_DATE = "{{ strftime_now('%d %b %Y') }}" + TEMPLATES["llama-3"]
THINKS = TEMPLATES["llama-3"].replace("m.content | trim", "m.content.split('.')[-1] | trim")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, r"lacks <\|im_start\|>, <\|im_end\|>, and the folder has no chat template(.|\n)*Instruct(.|\n)*jinja"),
        (NO_OTHER_DATE, r"was not taught ChatML(.|\n)*the day's date \(strftime_now\) and names no other"),
        (THINKS, r"was not taught ChatML, and the chat template is more than text around(.|\n)*would follow"),
        ("{% for m in messages %}", r"was not taught ChatML, and the chat template is not jinja's"),
    ],
    ids=["none", "a date alone", "words that are cut", "no jinja"],
)
def test_what_cannot_be_is_refused(llama_3, folder, template, message):
    with pytest.raises(CheckpointError, match=message):
        own_chat_format(llama_3, folder(template))


def test_half_of_chatml_is_not_chatml(folder):
    with pytest.raises(CheckpointError, match=r"lacks <\|im_end\|>, and"):
        own_chat_format(byte_level("<s>", "</s>", "<|im_start|>"), folder(None))


def test_padding_is_llama_3s_own():
    tokenizer = named_tokens("<s>", "</s>", *LLAMA_3_TOKENS, "<|finetune_right_pad_id|>")
    tokenizer.pad_token = None
    ready = own_vocabulary(
        tokenizer,
        len(tokenizer),
        "llm",
        image_token="<|image_pad|>",
        answer_end="<|eot_id|>",
        end_ids=[tokenizer.eos_token_id],
        pad_id=None,
    )
    assert ready.tokenizer.pad_token == "<|finetune_right_pad_id|>"
    assert ready.end_ids == (tokenizer.convert_tokens_to_ids("<|eot_id|>"), tokenizer.eos_token_id)
