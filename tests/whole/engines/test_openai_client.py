"""The official client against a server process with the trained tiny model."""

import openai
import pytest

from ...engines.serving.messages import user


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0, timeout=60) as made:
        yield made


def ask(client, messages, **fields):
    return client.chat.completions.create(model="laco-tiny", messages=messages, **fields)


def test_the_model_is_listed(client):
    assert [model.id for model in client.models.list()] == ["laco-tiny"]
    assert client.models.retrieve("laco-tiny").owned_by == "laco-export"


def test_pictures_are_answered_as_run_answers_them(client, questions, trained_bundle):
    from laco_engines.answering import Answerer
    from laco_export.bundle import open_bundle

    alone = Answerer(open_bundle(trained_bundle), threads=1)
    right = 0
    for question in questions:
        reply = ask(client, [user(question.text, question.url)])
        expected = alone.answer([question.path], question.text)
        assert reply.choices[0].message.content == expected.text
        assert reply.choices[0].finish_reason == "stop"
        assert reply.usage.prompt_tokens == expected.prompt_tokens
        assert reply.usage.completion_tokens == len(expected.token_ids)
        assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
        right += reply.choices[0].message.content == question.truth
    assert right >= 0.85 * len(questions)


def test_a_stream_brings_the_same_words(client, questions):
    for question in questions[:5]:
        messages = [user(question.text, question.url)]
        whole = ask(client, messages)
        chunks = list(ask(client, messages, stream=True, stream_options={"include_usage": True}))
        assert chunks[0].choices[0].delta.role == "assistant"
        words = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
        assert "".join(words) == whole.choices[0].message.content
        assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
        assert chunks[-1].choices == []
        assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
        assert all(chunk.usage is None for chunk in chunks[:-1])
        assert len({chunk.id for chunk in chunks}) == 1


def test_usage_comes_only_where_it_is_asked_for(client):
    assert all(chunk.usage is None and chunk.choices for chunk in ask(client, [user("Hi?")], stream=True))


def test_a_second_question_reuses_the_first_one_s_cache(client, questions):
    question = questions[3]
    messages = [user(question.text, question.url)]
    answer = ask(client, messages).choices[0].message
    reply = ask(client, [*messages, answer.model_dump(), user("And what shape is it?")])
    assert reply.usage.prompt_tokens_details.cached_tokens > 30


def test_the_longest_answer_and_stop_end_it(client, questions):
    words = next(q for q in questions if len(q.truth) > 4)
    messages = [user(words.text, words.url)]
    cut = ask(client, messages, max_completion_tokens=1)
    assert (cut.choices[0].finish_reason, cut.usage.completion_tokens) == ("length", 1)
    full = ask(client, messages).choices[0].message.content
    stopped = ask(client, messages, stop=[full[2]])
    assert (stopped.choices[0].finish_reason, stopped.choices[0].message.content) == (
        "stop",
        full[: full.find(full[2])],
    )


def test_log_probabilities_come_in_the_clients_own_types(client, questions):
    messages = [user(questions[0].text, questions[0].url)]
    reply = ask(client, messages, logprobs=True, top_logprobs=2)
    tokens = reply.choices[0].logprobs.content
    assert b"".join(bytes(token.bytes) for token in tokens).decode() == reply.choices[0].message.content
    assert all(token.top_logprobs[0].logprob == token.logprob <= 0 for token in tokens)  # greedily
    assert all(len(token.top_logprobs) == 2 for token in tokens)
    chunks = list(ask(client, messages, logprobs=True, top_logprobs=2, stream=True))
    streamed = [token for c in chunks if c.choices and c.choices[0].logprobs for token in c.choices[0].logprobs.content]
    assert [token.token for token in streamed] == [token.token for token in tokens]
    assert [token.logprob for token in streamed] == pytest.approx([token.logprob for token in tokens], abs=1e-4)


def test_a_seed_repeats_a_sampled_answer(client, questions):
    messages = [user("Name a colour.", questions[0].url)]
    sampled = lambda seed: ask(client, messages, temperature=2.0, seed=seed, max_tokens=12).choices[0].message.content
    assert sampled(1) == sampled(1)
    assert len({sampled(seed) for seed in range(6)}) > 1


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"n": 2}, openai.BadRequestError, "n is not supported"),
        ({"top_logprobs": 2}, openai.BadRequestError, "top_logprobs needs logprobs"),
        ({"model": "gpt-4o"}, openai.NotFoundError, "no model 'gpt-4o' here"),
        ({"messages": [user("Look", "https://example.org/a.png")]}, openai.BadRequestError, "fetches no pictures"),
        ({"messages": [user("Look", "data:image/png;base64,AAAA")]}, openai.BadRequestError, "is not a picture"),
        ({"messages": [user("why " * 3000)]}, openai.BadRequestError, "longer than the model's context"),
        ({"messages": [user("<|im_end|>")]}, openai.BadRequestError, "special token"),
    ],
)
def test_the_client_raises_what_was_wrong(client, fields, error, words):
    with pytest.raises(error, match=words):
        client.chat.completions.create(**{"model": "laco-tiny", "messages": [user("Hi?")], **fields})
