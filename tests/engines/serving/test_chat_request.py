import json
import math

import pytest

from laco_engines.serving.chat_request import MAX_MESSAGES, parse_chat_request
from laco_engines.serving.errors import ApiError

HI = [{"role": "user", "content": "Hi?"}]


def parse(**fields):
    return parse_chat_request(json.dumps({"messages": HI, **fields}).encode())


def refusal(**fields) -> ApiError:
    with pytest.raises(ApiError) as caught:
        parse(**fields)
    assert caught.value.status == 400
    return caught.value


def test_answers_are_greedy_unless_a_temperature_is_given():
    options = parse(top_p=0.9).generation_options(64)
    assert (options.temperature, options.top_p, options.max_new_tokens, options.stop) == (0.0, None, 64, ())


def test_openai_s_names_become_the_generation_s():
    options = parse(temperature=0.5, top_p=0.9, seed=7, stop=["a", "b"], max_completion_tokens=5).generation_options(64)
    assert (options.temperature, options.top_p, options.seed, options.stop) == (0.5, 0.9, 7, ("a", "b"))
    assert options.max_new_tokens == 5
    assert parse(max_tokens=6).generation_options(64).max_new_tokens == 6
    assert parse(stop="x").generation_options(64).stop == ("x",)


@pytest.mark.parametrize(
    ("mode", "temperature", "expected"),
    [(None, 0, None), ("exact", 0, "exact"), ("exact", 0.7, None), ("close", 0.7, "close")],
)
def test_the_servers_prompt_lookup_is_used_where_it_can_be(mode, temperature, expected):
    assert parse(temperature=temperature).generation_options(64, mode).prompt_lookup == expected


def test_penalties_and_min_p_are_honoured():
    options = parse(temperature=1, min_p=0.1, presence_penalty=1, frequency_penalty=-0.5).generation_options(64)
    assert (options.min_p, options.presence_penalty, options.frequency_penalty) == (0.1, 1, -0.5)
    assert parse(min_p=0.1).generation_options(64).min_p is None  # nothing is sampled


def test_more_tokens_than_the_server_gives_are_cut_to_what_it_gives():
    assert parse(max_tokens=100_000).generation_options(64).max_new_tokens == 64


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"n": 2}, "n", "unsupported_parameter"),
        ({"n": True}, "n", "unsupported_parameter"),
        ({"logprobs": 1}, "logprobs", "invalid_value"),
        ({"top_logprobs": 3}, "top_logprobs", None),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "invalid_value"),
        ({"tools": [{"type": "function"}]}, "tools", "unsupported_parameter"),
        ({"response_format": {"type": "json_object"}}, "response_format", "unsupported_parameter"),
        ({"frequency_penalty": 2.5}, "frequency_penalty", "invalid_value"),
        ({"presence_penalty": -2.5}, "presence_penalty", "invalid_value"),
        ({"min_p": 1.5}, "min_p", "invalid_value"),
        ({"frobnicate": 1}, "frobnicate", "unknown_parameter"),
        ({"temperature": -0.1}, "temperature", "invalid_value"),
        ({"temperature": "hot"}, "temperature", "invalid_value"),
        ({"top_p": 0}, "top_p", "invalid_value"),
        ({"seed": -1}, "seed", "invalid_value"),
        ({"seed": 2**63}, "seed", "invalid_value"),
        ({"max_tokens": 0}, "max_tokens", "invalid_value"),
        ({"max_tokens": 1.5}, "max_tokens", "invalid_value"),
        ({"stop": ["a"] * 5}, "stop", "invalid_value"),
        ({"stop": [""]}, "stop[0]", "invalid_value"),
        ({"stream": "yes"}, "stream", "invalid_value"),
        ({"stream_options": {"include_usage": True}}, "stream_options", None),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens", None),
        ({"messages": []}, "messages", "invalid_value"),
        ({"messages": "Hi?"}, "messages", "invalid_value"),
        ({"messages": HI * (MAX_MESSAGES + 1)}, "messages", "invalid_value"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role", "invalid_value"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "invalid_value"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0]", None),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": 5}}]}]},
            "messages[0].content[0].image_url.url",
            "invalid_value",
        ),
    ],
)
def test_what_is_wrong_is_named(fields, param, code):
    error = refusal(**fields)
    assert error.param == param
    assert code is None or error.code == code
    assert error.message


def test_what_asks_for_nothing_passes():
    request = parse(n=1, tools=[], logit_bias=None, frequency_penalty=0.0, response_format={"type": "text"}, user="me")
    assert len(request.messages) == 1


def test_an_answer_of_openai_s_client_can_be_sent_back():
    earlier = {"role": "assistant", "content": "Yes.", "refusal": None, "tool_calls": None, "annotations": None}
    request = parse(messages=[*HI, earlier, *HI])
    assert [message.role for message in request.messages] == ["user", "assistant", "user"]


@pytest.mark.parametrize("body", [b"", b"{", b'{"messages": [', b"\xff\xfe", b"[" * 100_000, b"null", b'"text"', b"[]"])
def test_what_is_no_json_object_is_refused(body):
    with pytest.raises(ApiError) as caught:
        parse_chat_request(body)
    assert caught.value.status == 400
    assert caught.value.message


def test_numbers_that_are_none_are_refused():
    with pytest.raises(ApiError):
        parse_chat_request(json.dumps({"messages": HI, "temperature": math.nan}).encode())


def test_half_of_a_surrogate_pair_is_refused():
    with pytest.raises(ApiError) as caught:
        parse_chat_request(rb'{"messages": [{"role": "user", "content": "\ud800?"}]}')
    assert caught.value.status == 400
