"""The log-probabilities are of the logits that a token was chosen by, on both text runtimes."""

import numpy as np
import pytest

from laco_engines.generation.token_logprobs import TokenLogprobs


def test_each_step_is_noted_once_its_token_is_chosen():
    recorded, answer = TokenLogprobs(2), []
    buffer = np.log(np.array([[0.5, 0.3, 0.15, 0.05]], np.float32)) + 7  # softmax takes the 7 off again
    assert recorded([answer], buffer) is buffer
    recorded.settle()
    assert recorded.steps == []
    answer.append(2)
    buffer[:] = [[0, -np.inf, 0, -np.inf]]  # the next step's
    recorded([answer], buffer)
    answer.append(0)
    recorded.settle()
    recorded.settle()
    first, second = recorded.steps
    assert (first.token_id, first.logprob) == (2, pytest.approx(np.log(0.15), abs=1e-6))
    assert [token for token, _ in first.likeliest] == [0, 1]
    assert [value for _, value in first.likeliest] == pytest.approx(np.log([0.5, 0.3]), abs=1e-6)
    assert (second.token_id, second.logprob) == (0, pytest.approx(np.log(0.5)))


def test_tokens_that_cannot_be_said_are_not_among_the_likeliest():
    for count, expected in ((0, []), (1, [1]), (4, [1, 3]), (9, [1, 3])):
        recorded, answer = TokenLogprobs(count), []
        recorded([answer], np.array([[-np.inf, 2, -np.inf, 1]], np.float32))
        answer.append(3)
        recorded.settle()
        assert [token for token, _ in recorded.steps[0].likeliest] == expected


@pytest.mark.parametrize("runtime", ["optimum", "lean"])
@pytest.mark.parametrize("options", [{}, {"temperature": 1.5, "top_k": 5, "seed": 3}], ids=["greedy", "sampled"])
def test_they_are_those_of_one_pass_over_the_answer(request, lean_answerer, answerer, runtime, options):
    if runtime == "optimum":
        request.getfixturevalue("needs_optimum")
    asked = {"optimum": answerer, "lean": lean_answerer}[runtime]
    prompt = asked.prompter.prepare([], "What is it?")
    recorded = TokenLogprobs(3)
    answer = asked.generate(prompt, max_new_tokens=8, logits_processor=recorded, **options)
    recorded.settle()
    assert [step.token_id for step in recorded.steps] == answer.token_ids
    whole = np.concatenate([prompt.input_ids, answer.token_ids[:-1]])
    logits = asked.text.logits(asked.text.embed(whole), len(answer.token_ids)).astype(np.float64)
    expected = logits - np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1, keepdims=True))
    expected -= logits.max(1, keepdims=True)
    for step, row in zip(recorded.steps, expected, strict=True):
        assert step.logprob == pytest.approx(row[step.token_id], abs=1e-3)
        assert [value for _, value in step.likeliest] == pytest.approx(sorted(row)[:-4:-1], abs=1e-3)
