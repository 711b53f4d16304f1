"""Prompt lookup: the tokens, ends and caches of an answer without it, in fewer passes."""

import numpy as np
import pytest

from laco_engines.generation.draft_width import LEAST_SPEED
from laco_engines.generation.lean_decoder import LeanDecoder
from laco_engines.generation.options import GenerationOptions
from laco_engines.generation.pass_costs import PassCosts
from laco_engines.generation.prompt_lookup import NgramIndex
from laco_engines.generation.streaming import RowText
from laco_engines.generation.text_runtime import EmbeddedPrompt
from laco_export.errors import UsageError

COSTS = {1: 1.0, 2: 1.06, 4: 1.27, 8: 1.64, 16: 1.78}
ROUNDING = 2e-5
QUESTION = "What is it?"


@pytest.fixture
def lean(lean_answerer, monkeypatch):
    """With costs that are the same on every machine, and nothing in its cache."""
    lean_answerer.forget()
    monkeypatch.setitem(lean_answerer.text.__dict__, "pass_costs", PassCosts(COSTS, ROUNDING))
    return lean_answerer


@pytest.fixture
def widths(monkeypatch):
    """Of the passes that are made, a step's 1 included."""
    made, step, read = [], LeanDecoder.step, LeanDecoder.read
    monkeypatch.setattr(LeanDecoder, "step", lambda self, *a: made.append(1) or step(self, *a))
    monkeypatch.setattr(LeanDecoder, "read", lambda self, tokens, c: made.append(len(tokens)) or read(self, tokens, c))
    return made


class Say:
    """A logits processor that has given tokens said."""

    def __init__(self, token_ids):
        self._token_ids = token_ids

    def __call__(self, answers, logits):
        forced = np.full_like(logits, -np.inf)
        forced[0, self._token_ids[len(answers[0])]] = 0
        return forced


class Contradict:
    """A logits processor under which every draft is wrong: what was said before is followed by something else."""

    def __init__(self, prompt):
        self._index = NgramIndex(prompt)
        self._heard = 0

    def __call__(self, answers, logits):
        for token in answers[0][self._heard :]:
            self._index.add(token)
        self._heard = len(answers[0])
        drafted = self._index.draft(1).token_ids
        return Say([10 + (drafted[0] + 1) % 3 if drafted else 10 + self._heard % 3] * (self._heard + 1))(
            answers, logits
        )


def generate(answerer, ids, processors=(), *, limit=48, end_tokens=(258,), stop=(), **options):
    ids = np.asarray(ids)
    row = RowText(answerer.prompter.tokenizer, end_tokens=end_tokens, limit=limit, stop=stop)
    prompt = EmbeddedPrompt(ids, answerer.text.embed(ids))
    cache = answerer.text.generate([prompt], [row], GenerationOptions(**options), processors=processors)
    return row, cache


def prompts(count, alphabet):
    """Of few different tokens: the tiny model answers these with what stood there before, more often than not."""
    random = np.random.default_rng(0)
    return [random.integers(10, 10 + alphabet, random.integers(4, 60)) for _ in range(count)]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"repetition_penalty": 1.3},
        {"presence_penalty": 0.4, "frequency_penalty": 0.05},
        {"temperature": 0.3, "seed": 5, "prompt_lookup": "close"},
        {"temperature": 1.0, "top_k": 0, "top_p": 0.8, "repetition_penalty": 0.8, "seed": 1, "prompt_lookup": "close"},
    ],
    ids=["greedy", "repetition", "presence", "cool", "sampled"],
)
def test_the_tokens_are_those_without(lean, widths, options):
    asked = {"prompt_lookup": "exact", **options}
    plain_options = {name: value for name, value in options.items() if name != "prompt_lookup"}
    longest, steps = 1, 0
    for ids in prompts(10, 4) + prompts(6, 200):
        plain, plain_cache = generate(lean, ids, **plain_options)
        steps += len(widths)
        widths.clear()
        drafted, cache = generate(lean, ids, **asked)
        assert drafted.token_ids == plain.token_ids
        assert drafted.passes == len(widths)
        assert cache.lengths == plain_cache.lengths
        for ours, theirs in zip(cache.read(), plain_cache.read(), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-4)
        longest, steps = max(longest, *widths), steps - len(widths)
        widths.clear()
    assert longest > 1
    assert steps > 0


def test_a_copy_takes_a_fraction_of_the_steps(lean, widths):
    """The prompt's first 40 tokens, and they again, to the hundredth."""
    ids = [*range(20, 60), 11, 12]
    said = ids[:40] * 3
    plain, _ = generate(lean, ids, [Say(said)], limit=100)
    assert widths == [1] * 99
    widths.clear()
    drafted, _ = generate(lean, ids, [Say(said)], limit=100, prompt_lookup="exact")
    assert drafted.token_ids == plain.token_ids == said[:100]
    assert len(widths) < 25
    assert 16 in widths


@pytest.mark.parametrize("limit", [1, 2, 40, 300])
def test_an_answer_whose_drafts_are_all_wrong_takes_as_many_steps_and_hardly_more(lean, widths, limit):
    ids = np.random.default_rng(3).integers(10, 13, 60)
    drafted, _ = generate(lean, ids, [Contradict(ids.tolist())], limit=limit, prompt_lookup="exact")
    assert len(drafted.token_ids) == limit
    assert drafted.passes == len(widths) == limit - 1
    assert (limit < 40) or max(widths) > 1
    assert sum(COSTS[width] for width in widths) <= max(0, limit - 1) / LEAST_SPEED


def test_an_end_token_amid_an_accepted_draft_ends_the_answer(lean, widths):
    ids = [*range(20, 60), 11, 12]
    drafted, cache = generate(lean, ids, [Say(ids[:40])], end_tokens=[47], prompt_lookup="exact")
    assert drafted.token_ids == list(range(20, 48))
    assert drafted.finish == "stop"
    assert cache.lengths == [len(ids) + 27]  # the last token was not read
    assert sum(widths) > 27  # more was read, and forgotten
    assert set(cache.bindings) <= {"step"}  # a prefix cache keeps it, and need not keep the passes' logits


def test_a_stop_string_amid_an_accepted_draft_ends_the_answer(lean):
    tokenizer = lean.prompter.tokenizer
    ids = tokenizer.encode("to be copied, word by word, as it is. ").ids
    said = tokenizer.decode(ids)
    results = [
        generate(lean, [*ids, *ids[:4]], [Say(ids[4:])], limit=30, stop=("word",), **options)
        for options in ({}, {"prompt_lookup": "exact"})
    ]
    assert "word" in said
    (plain, plain_cache), (drafted, cache) = results
    assert drafted.text() == plain.text()
    assert (drafted.token_ids, drafted.stopped_by) == (plain.token_ids, "word")
    assert cache.lengths == plain_cache.lengths
    assert drafted.passes < len(plain.token_ids) - 1


def test_cancelled_amid_an_accepted_draft(lean, make_picture):
    prompt = lean.prompter.prepare([make_picture(5)], QUESTION)
    said = prompt.input_ids.tolist()[:40]
    asked = []
    answer = lean.generate(
        prompt,
        max_new_tokens=40,
        prompt_lookup="exact",
        logits_processor=Say(said),
        cancelled=lambda: asked.append(1) or len(asked) == 21,
    )
    assert (answer.token_ids, answer.finish) == (said[:21], "cancelled")
    assert answer.timings.decode_tokens_per_pass > 1.5


def test_later_turns_go_on_from_the_cache_that_is_left(lean, make_picture):
    """What was read too far is in no later answer."""
    prompt = lean.prompter.prepare([make_picture(1)], "aaaa aaaa aaaa aaaa")
    answers = {}
    for mode in (None, "exact"):
        lean.forget()
        first = lean.generate(prompt, max_new_tokens=30, prompt_lookup=mode)
        turn = lean.prompter.assistant_turn(first.token_ids)
        joined = [
            lean.prompter.system_turn(None),
            lean.prompter.user_turn("aaaa aaaa aaaa aaaa", [make_picture(1)], alone=True),
            turn,
            lean.prompter.user_turn("and aaaa?"),
        ]
        second = lean.generate(lean.prompter.join(joined), max_new_tokens=30, prompt_lookup=mode)
        answers[mode] = (first.token_ids, second.token_ids, second.cached_tokens)
    assert answers["exact"] == answers[None]
    assert answers[None][2] > 30


def test_scores_are_one_a_token(lean, make_picture):
    scores = [
        lean.answer([make_picture(2)], "aaaa aaaa", max_new_tokens=24, output_scores=True, prompt_lookup=mode).scores
        for mode in (None, "exact")
    ]
    for ours, theirs in zip(*scores, strict=True):
        assert (ours.token, ours.runner_up) == (theirs.token, theirs.runner_up)
        assert ours.margin == pytest.approx(theirs.margin, abs=1e-4)


@pytest.fixture
def rough(lean, monkeypatch):
    """A decoder whose passes give logits that are off by up to a half, as one does that rounds activations."""
    read, random = LeanDecoder.read, np.random.default_rng(7)

    def off(self, tokens, cache):
        logits = read(self, tokens, cache)
        logits += random.uniform(-0.5, 0.5, logits.shape).astype(np.float32)
        return logits

    monkeypatch.setattr(LeanDecoder, "read", off)
    return lean


def test_near_ties_are_decided_by_single_steps(rough, monkeypatch):
    """So the tokens are those without drafts, where the logits of passes alone would give others."""
    asked = prompts(12, 4)
    plain = [generate(rough, ids)[0].token_ids for ids in asked]
    monkeypatch.setitem(rough.text.__dict__, "pass_costs", PassCosts(COSTS, 0.5))
    monkeypatch.setattr("laco_engines.generation.lean_runtime.MAX_ROUNDING", 1.0)
    exact = [generate(rough, ids, prompt_lookup="exact")[0].token_ids for ids in asked]
    close = [generate(rough, ids, prompt_lookup="close")[0].token_ids for ids in asked]
    assert exact == plain
    assert close != plain


@pytest.mark.parametrize("rounding", [0.01, float("nan")])
def test_exact_is_refused_where_logits_depend_on_the_pass(lean, monkeypatch, rounding):
    monkeypatch.setitem(lean.text.__dict__, "pass_costs", PassCosts(COSTS, rounding))
    with pytest.raises(UsageError, match="cannot promise the tokens") as refused:
        lean.answer([], QUESTION, prompt_lookup="exact")
    assert "--prompt-lookup close" in refused.value.todo
    assert lean.answer([], QUESTION, prompt_lookup="close", max_new_tokens=2).token_ids


def test_a_batch_is_refused(lean):
    batch = [lean.prompter.prepare([], question) for question in ("a", "b")]
    with pytest.raises(UsageError, match="one question at a time"):
        lean.generate_batch(batch, prompt_lookup="exact")


def test_optimum_says_who_does_it(needs_optimum, answerer):
    with pytest.raises(UsageError, match="'optimum' has no prompt lookup") as refused:
        answerer.answer([], QUESTION, prompt_lookup="exact")
    assert "--text-runtime lean" in refused.value.todo
