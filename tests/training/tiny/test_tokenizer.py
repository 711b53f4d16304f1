"""The small tokenizer spells what it never saw, and speaks ChatML."""

import pytest

from laco_export.conversation import CHAT_TEMPLATE, render
from laco_training.tiny.texts import held_out_words
from laco_training.tiny.tokenizer import SPECIAL_TOKENS, train_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer()


def test_unseen_words_are_spelled(tokenizer):
    for word in held_out_words()[:20]:
        ids = tokenizer(word, add_special_tokens=False)["input_ids"]
        assert [tokenizer.decode([i]) for i in ids] == list(word)


def test_the_tokenizer_round_trips(tokenizer):
    text = render([("user", "<image>\nWhat word is written? Ünïcode 漢字"), ("assistant", "CAT")])
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text
    for token in SPECIAL_TOKENS:
        assert len(tokenizer(token, add_special_tokens=False)["input_ids"]) == 1


def test_its_chat_template_is_the_rendering(tokenizer):
    assert tokenizer.chat_template == CHAT_TEMPLATE
    turns = [("user", "hello"), ("assistant", "yes"), ("user", "sure?")]
    messages = [{"role": role, "content": text} for role, text in turns]
    rendered = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert rendered == render(turns, add_generation_prompt=True)
