"""Log-probabilities in OpenAI's form are of the text that is sent, and the same whole and streamed."""

import json

import pytest

from laco_engines.generation.token_logprobs import TokenLogprob
from laco_engines.serving.logprobs import SentLogprobs

from .messages import user


class Recorded:
    def __init__(self, token_ids):
        self.steps = [TokenLogprob(token, -0.5, ((token, -0.5), (0, -2.0))) for token in token_ids]


@pytest.fixture
def spell(answerer):
    """Token ids of a text, a byte each, and of ``<|im_end|>``."""
    tokenizer = answerer.prompter.tokenizer

    def ids(text):
        return tokenizer.encode(text, add_special_tokens=False).ids

    return tokenizer, ids


def tokens(record):
    return [entry["token"] for entry in record["content"]]


def test_each_piece_brings_its_tokens(spell):
    tokenizer, ids = spell
    sent = SentLogprobs(tokenizer, Recorded(ids("ab é!<|im_end|>")))
    first, second, third = (sent.behind(piece) for piece in ("ab", " é", "!"))
    assert (tokens(first), tokens(third)) == (["a", "b"], ["!"])  # the end is not of the text
    assert tokens(second) == [" ", "\ufffd", "\ufffd"]
    assert bytes(byte for entry in second["content"] for byte in entry["bytes"]) == " é".encode()
    assert sent.behind("")["content"] == []
    entry = first["content"][0]
    assert entry.keys() == {"token", "logprob", "bytes", "top_logprobs"}
    assert (entry["logprob"], entry["bytes"], len(entry["top_logprobs"])) == (-0.5, [97], 2)


def test_a_stop_strings_tokens_are_not_of_the_text(spell):
    tokenizer, ids = spell
    sent = SentLogprobs(tokenizer, Recorded(ids("so STOP")))
    assert tokens(sent.behind("so ")) == ["s", "o", " "]


@pytest.mark.parametrize("fields", [{}, {"temperature": 1.4, "seed": 4}], ids=["greedy", "sampled"])
def test_they_are_the_same_whole_and_streamed(running, gated, fields):
    gated.gate.set()
    replies = {}

    async def check(client, service):
        asked = {"logprobs": True, "top_logprobs": 3, "max_tokens": 12, **fields}
        for stream in (False, True):
            replies[stream] = await client.ask([user("What is it?")], stream=stream, **asked)
        replies["none"] = await client.ask([user("What is it?")], max_tokens=12, **fields)

    running(check)
    (choice,) = replies[False].json["choices"]
    content = choice["logprobs"]["content"]
    assert (
        b"".join(bytes(entry["bytes"]) for entry in content).decode("utf-8", "replace") == choice["message"]["content"]
    )
    assert 1 < len(content) <= 12
    for entry in content:
        likeliest = [other["logprob"] for other in entry["top_logprobs"]]
        assert len(likeliest) == 3 and likeliest == sorted(likeliest, reverse=True) and entry["logprob"] <= likeliest[0]
    events = [json.loads(line[6:]) for line in replies[True].body.decode().split("\n\n") if line.startswith("data: {")]
    choices = [event["choices"][0] for event in events]
    streamed = [entry for each in choices if each["logprobs"] for entry in each["logprobs"]["content"]]
    assert [entry["token"] for entry in streamed] == [entry["token"] for entry in content]
    assert [entry["logprob"] for entry in streamed] == pytest.approx([entry["logprob"] for entry in content], abs=1e-4)
    assert replies["none"].json["choices"][0]["logprobs"] is None
