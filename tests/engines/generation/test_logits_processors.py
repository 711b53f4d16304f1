"""What looks at an answer's logits while it is generated, on both text runtimes."""

import numpy as np
import pytest

from laco_engines.generation.lean_decoder import _BoundPass
from laco_engines.generation.logits_processors import CountPenalty, FiniteLogits, ForcedAnswer
from laco_export.errors import NotFiniteError


@pytest.mark.parametrize(
    ("tokens", "value"), [(7, float("nan")), (7, float("inf")), (slice(None), float("-inf"))], ids=["nan", "inf", "all"]
)
def test_the_first_and_each_sixteenth_tokens_logits_are_looked_at(tokens, value):
    sound, broken = np.random.default_rng(0).standard_normal((2, 2, 300), np.float32)
    sound[0, 5] = float("-inf")  # a token that may not be chosen
    broken[1, tokens] = value
    for last_sound in range(2 * FiniteLogits.EVERY):
        look = FiniteLogits()
        for _ in range(last_sound):
            assert look(None, sound) is sound
        if last_sound % FiniteLogits.EVERY:
            assert look(None, broken) is broken
        else:
            with pytest.raises(NotFiniteError, match="the language model's logits are inf or NaN") as refused:
                look(None, broken)
            assert refused.value.given == f"at token {last_sound + 1} of the answer"


@pytest.fixture(params=["optimum", "lean"])
def either(request, answerer, lean_answerer):
    if request.param == "optimum":
        request.getfixturevalue("needs_optimum")
    return {"optimum": answerer, "lean": lean_answerer}[request.param]


def from_step(answerer, first, monkeypatch):
    """Let the decoder's logits be NaN from their pass number ``first`` on."""
    passes = []

    def broken(run):
        def broken_run(self, *arguments):
            passes.append(1)
            return run(self, *arguments) * (np.float32("nan") if len(passes) > first else 1)

        return broken_run

    owner, name = (_BoundPass, "run") if answerer.text.name.startswith("lean ") else (type(answerer.decoder), "_run")
    monkeypatch.setattr(owner, name, broken(getattr(owner, name)))


@pytest.mark.parametrize(("first", "token"), [(0, 1), (1, 17), (16, 17)])
@pytest.mark.parametrize("options", [{}, {"temperature": 0.7, "seed": 1}], ids=["greedy", "sampled"])
def test_an_answer_of_nan_ends_in_an_error(either, monkeypatch, first, token, options):
    answerer = either
    monkeypatch.setattr(answerer.generator, "rows", without_end(answerer.generator.rows))
    from_step(answerer, first, monkeypatch)
    if options and first == 1:
        with pytest.raises((NotFiniteError, RuntimeError)):  # which torch refuses to sample from
            answerer.answer([], "What is this?", max_new_tokens=40, **options)
        return
    with pytest.raises(NotFiniteError, match=f"at token {token} of the answer"):
        answerer.answer([], "What is this?", max_new_tokens=40, **options)
    monkeypatch.undo()
    assert answerer.answer([], "What is this?", max_new_tokens=2).token_ids  # the next one is answered


def without_end(rows):
    """Answers that no end token ends."""

    def make(*arguments):
        made = rows(*arguments)
        for row in made:
            row.end_tokens = frozenset()
        return made

    return make


def test_a_batch_is_looked_at_too(either, monkeypatch):
    answerer = either
    from_step(answerer, 0, monkeypatch)
    prompts = [answerer.prompter.prepare([], question) for question in ("What?", "And what is this?")]
    with pytest.raises(NotFiniteError):
        answerer.generate_batch(prompts, max_new_tokens=2)


def test_an_answer_is_forced_and_what_would_have_been_said_recorded(either):
    answerer = either
    prompt = answerer.prompter.prepare([], "What is this?")
    said = answerer.generate(prompt, max_new_tokens=4, output_scores=True)
    other = np.array([(token + 1) % 256 for token in said.token_ids])
    forced = ForcedAnswer(other, np.tile(np.arange(3), (4, 1)))
    answer = answerer.generate(prompt, max_new_tokens=4, logits_processor=forced)
    assert answer.token_ids == other.tolist()
    assert forced.chosen[0] == said.token_ids[0]  # nothing was forced before it
    assert np.stack(forced.logits).shape == (4, 3)
    again = ForcedAnswer(np.array(said.token_ids), np.array(said.token_ids)[:, None])
    answerer.generate(prompt, max_new_tokens=4, logits_processor=again)
    assert again.chosen == said.token_ids
    np.testing.assert_allclose(np.stack(again.logits)[:, 0], [score.logit for score in said.scores], rtol=1e-4)


def test_presence_and_frequency_count_what_was_said():
    logits = np.zeros((2, 6), np.float32)
    lowered = CountPenalty(0.5, 0.25)([[1, 1, 4], []], logits)
    np.testing.assert_array_equal(lowered, [[0, -1.0, 0, 0, -0.75, 0], [0] * 6])
    assert not logits.any()
