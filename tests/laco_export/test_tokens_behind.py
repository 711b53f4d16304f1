"""A text is tokenised as it stands behind another, or apart where a token would stand across the joint."""

import pytest
from chat_formats import TOKENIZERS

from laco_export.tokens_behind import cuts_before, tokens_behind, tokens_of_spans

SPECIAL = ("<a>", "<b>")


@pytest.fixture(params=TOKENIZERS)
def encode(request):
    tokenizer = TOKENIZERS[request.param]("<s>", "</s>", *SPECIAL)
    return lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize(
    ("before", "text"),
    [
        ("USER: What is it? ASSISTANT:", " It is red."),
        ("<s>user\n", "It is"),
        ("The box</s>", "USER: x"),
        ("<a>\n", "<b>x"),
        ("the picture" + " of the picture" * 20, " is red"),
        ("", "USER: x"),
    ],
)
def test_both_at_once(encode, before, text):
    tokens, skipped = tokens_behind(before, text, encode)
    assert encode(before) + list(tokens) == encode(before + text)
    assert skipped == min(len(before), 64)


def test_a_token_across_the_joint_is_not_made(encode):
    apart, skipped = tokens_behind("the pict", "ure is", encode)
    assert encode("the pict") + list(apart) != encode("the picture is")
    assert list(apart) in (encode("aure is")[len(encode("a")) :], encode("ure is"))
    assert skipped in (0, 1)


def test_spans_that_are_alike_are_tokenised_at_once(encode):
    spans = [("USER: the", False), (" box ", False), ("ASSISTANT:", False), (" red</s>", True), ("USER: x", False)]
    tokens = list(tokens_of_spans(spans, encode))
    assert [counts for _, counts in tokens] == [False, True, False]
    assert [token for ids, _ in tokens for token in ids] == encode("".join(text for text, _ in spans))


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_cuts_change_no_token(kind):
    tokenizer, asked = TOKENIZERS[kind]("<s>", "</s>", *SPECIAL), []

    def encode(text):
        asked.append(text)
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    spans = [("<a>user\nIs it?<b>\n<a>", False), ("it is<b>", True), ("\n<a>so", False)]
    cuts = cuts_before(tokenizer.added_tokens_decoder.values())
    ids = [token for ids, _ in tokens_of_spans(spans, encode, cuts) for token in ids]
    assert {"<a>user\nIs it?", "<b>\n", "<b>"} <= set(asked)
    assert ids == encode("".join(text for text, _ in spans))


def test_no_cut_before_a_token_that_takes_what_stands_before_it():
    from tokenizers import AddedToken

    tokens = [AddedToken("<c>", lstrip=True), AddedToken("<d>", normalized=True), AddedToken("<e>", single_word=True)]
    assert cuts_before(tokens).split("a<c>b<d>c<e>d") == ["a<c>b<d>c<e>d"]
    assert cuts_before([*tokens, AddedToken("<f>", normalized=False)]).split("a<c>b<f>d") == ["a<c>b", "<f>d"]
