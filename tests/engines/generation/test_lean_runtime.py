"""The lean text runtime against Optimum's: the same tokens, the same ends, and nothing of PyTorch."""

import subprocess
import sys

import numpy as np
import pytest
from transformers import LogitsProcessor

from laco_engines.answering import Answerer
from laco_engines.generation.streaming import RowText
from laco_engines.generation.text_runtime import EmbeddedPrompt
from laco_export.errors import UsageError
from laco_export.golden import read_golden
from laco_export.golden_answers import read_golden_answers

QUESTION = "What is it?"


@pytest.fixture
def both(needs_optimum, answerer, lean_answerer):
    """Optimum's and the lean one, with nothing in their caches."""
    answerer.forget()
    lean_answerer.forget()
    return answerer, lean_answerer


class _Printable:
    """Lets printable ASCII alone be said."""

    def __init__(self, tokenizer):
        texts = [tokenizer.decode([token]) for token in range(tokenizer.get_vocab_size())]
        self._wrong = [
            token for token, text in enumerate(texts) if not (text.isascii() and text.isprintable() and text)
        ]

    def __call__(self, answers, logits):
        allowed = logits.copy()
        allowed[:, self._wrong] = -np.inf
        return allowed


def test_golden_prompts_get_the_same_tokens(both, bundle):
    pictures = read_golden(bundle)
    answers = read_golden_answers(bundle, len(pictures.names)).answers
    for golden in answers:
        shown = golden.question.shown(pictures.pictures)
        tokens = [each.answer(shown, golden.question.text, max_new_tokens=32).token_ids for each in both]
        assert tokens[0] == tokens[1]
    assert len(answers) > 2


@pytest.mark.parametrize(
    "options", [{}, {"repetition_penalty": 1.3}, {"presence_penalty": 1.5, "frequency_penalty": 0.7}]
)
def test_random_prompts_get_the_same_tokens(both, options):
    """Twelve prompts of random tokens and lengths; the benchmark asks 200."""
    from laco_engines.generation.options import GenerationOptions

    random, chosen = np.random.default_rng(0), []
    for _ in range(12):
        ids = random.integers(10, 250, random.integers(1, 60))
        for each in both:
            row = RowText(each.prompter.tokenizer, end_tokens=[258], limit=24)
            each.text.generate([EmbeddedPrompt(ids, each.text.embed(ids))], [row], GenerationOptions(**options))
            chosen.append(row.token_ids)
    assert chosen[::2] == chosen[1::2]
    assert len({tuple(tokens) for tokens in chosen}) == 12


def test_the_checkpoints_penalty_counts(both, monkeypatch):
    optimum, lean = both
    monkeypatch.setattr(optimum.decoder.generation_config, "repetition_penalty", 5.0)
    monkeypatch.setitem(lean.text._generation_fields, "repetition_penalty", 5.0)
    plain, given = ([each.answer([], QUESTION, max_new_tokens=16, **options).token_ids for each in both]
                    for options in ({}, {"repetition_penalty": 1.0}))  # fmt: skip
    assert plain[0] == plain[1] != given[0] == given[1]


def test_logits_of_a_pass_are_those_of_optimum(both):
    embeds = both[0].text.embed(np.random.default_rng(1).integers(10, 250, 30))
    theirs, ours = (each.text.logits(embeds, 7) for each in both)
    assert ours.shape == theirs.shape == (7, 264)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def prompts_of_many_lengths(answerer, make_picture):
    asked = [([], "a"), ([1], QUESTION), ([2, 3], "<image> or rather the other, <image>?"), ([4], "b" * 70)]
    return [answerer.prompter.prepare([make_picture(seed) for seed in seeds], question) for seeds, question in asked]


@pytest.mark.parametrize(
    "options",
    [{}, {"repetition_penalty": 2.0}, {"presence_penalty": 2.0}, {"temperature": 1.2, "top_k": 0, "seed": 3}],
    ids=["greedy", "repetition", "presence", "sampled"],
)
def test_a_batch_answers_as_each_alone(lean_answerer, make_picture, options):
    """Sampled too: each row draws by itself."""
    prompts = prompts_of_many_lengths(lean_answerer, make_picture)
    together = lean_answerer.generate_batch(prompts, max_new_tokens=16, **options)
    alone = [lean_answerer.generate(prompt, max_new_tokens=16, **options) for prompt in prompts]
    assert [answer.token_ids for answer in together] == [answer.token_ids for answer in alone]
    assert len({tuple(answer.token_ids) for answer in together}) == len(prompts)


@pytest.mark.parametrize("name", ["optimum", "lean"])
def test_a_seed_repeats_an_answer_whatever_was_asked_before(both, bundle, make_picture, name):
    """Also by another answerer, and from the KV cache of an earlier answer; another seed says other things."""
    answerer = both[("optimum", "lean").index(name)]
    sampled = {"temperature": 1.3, "top_k": 0, "max_new_tokens": 16}

    def tokens(asked, seed):
        return asked.answer([make_picture(1)], QUESTION, seed=seed, **sampled).token_ids

    first = tokens(answerer, 7)
    others = [tokens(answerer, 8), answerer.answer([], "b", temperature=1.0).token_ids]
    assert tokens(answerer, 7) == first not in others
    assert tokens(Answerer(bundle, text_runtime=name, threads=1), 7) == first


def test_a_seed_is_of_one_text_runtime(both):
    """PyTorch's random numbers are not numpy's: what was sampled on one is not repeated on the other."""
    answers = [
        each.answer([], QUESTION, temperature=1.3, top_k=0, max_new_tokens=16, seed=7).token_ids for each in both
    ]
    assert answers[0] != answers[1]


def test_each_row_of_a_batch_ends_by_itself(both, make_picture):
    optimum, lean = both
    prompts = prompts_of_many_lengths(lean, make_picture)
    ends, decoder = list(lean.bundle.manifest.decoder.eos_token_ids), lean.bundle.manifest.decoder
    decoder.eos_token_ids[:] = [lean.generate(prompts[1], max_new_tokens=16).token_ids[4]]
    shown = {}
    try:
        answers = lean.generate_batch(
            prompts, max_new_tokens=16, on_text=lambda index, text: shown.setdefault(index, []).append(text)
        )
        expected = optimum.generate_batch(prompts, max_new_tokens=16)
    finally:
        decoder.eos_token_ids[:] = ends
    assert [(a.token_ids, a.finish) for a in answers] == [(a.token_ids, a.finish) for a in expected]
    assert answers[1].finish == "stop" and len(answers[1].token_ids) <= 5
    for index, answer in enumerate(answers):
        assert "".join(shown[index]).replace("\ufffd", "") == answer.text.replace("\ufffd", "")


@pytest.mark.parametrize("length", [1, 3])
def test_a_stop_string_ends_both_alike(both, make_picture, length):
    processor = _Printable(both[0].prompter.tokenizer)
    whole = both[0].answer([make_picture(3)], QUESTION, max_new_tokens=30, logits_processor=processor).text
    stop = whole[12 : 12 + length]
    answers, shown = [], []
    for each in both:
        answers.append(
            each.answer(
                [make_picture(3)], QUESTION, max_new_tokens=30, stop=("~no~", stop), on_text=shown.append,
                logits_processor=processor,
            )
        )  # fmt: skip
    assert answers[0].text == answers[1].text == whole[: whole.find(stop)]
    assert "".join(shown) == 2 * answers[0].text
    assert answers[0].token_ids == answers[1].token_ids
    assert (answers[1].finish, answers[1].stopped_by) == ("stop", stop)


def test_cancelled_says_when(both, make_picture):
    whole = both[0].answer([make_picture(5)], QUESTION, max_new_tokens=20)
    for each in both:
        asked = []
        answer = each.answer(
            [make_picture(5)],
            QUESTION,
            max_new_tokens=20,
            cancelled=lambda asked=asked: asked.append(1) or len(asked) == 3,
        )
        assert (answer.token_ids, answer.finish) == (whole.token_ids[:3], "cancelled")


def test_a_conversation_computes_only_what_is_new(both, make_picture):
    lean = both[1]
    for question in ("What is this?", "What colour has it?", "What is this, then?"):
        lean_answer = lean.answer([make_picture(1)], question, max_new_tokens=8)
        both[0].forget()
        assert lean_answer.token_ids == both[0].answer([make_picture(1)], question, max_new_tokens=8).token_ids
    assert lean_answer.cached_tokens > 20


def test_an_interrupted_answer_leaves_nothing_wrong_behind(lean_answerer, make_picture):
    prompt = lean_answerer.prompter.prepare([make_picture(1)], "What?")
    expected = lean_answerer.generate(prompt, max_new_tokens=10).token_ids

    def interrupt(text):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lean_answerer.generate(prompt, max_new_tokens=40, on_text=interrupt)
    assert lean_answerer.generate(prompt, max_new_tokens=10).token_ids == expected


def test_scores_are_those_of_optimum(both, make_picture):
    scores = [each.answer([make_picture(2)], QUESTION, max_new_tokens=6, output_scores=True).scores for each in both]
    for ours, theirs in zip(*scores, strict=True):
        assert (ours.token, ours.runner_up) == (theirs.token, theirs.runner_up)
        assert ours.margin == pytest.approx(theirs.margin, abs=1e-4)


def test_a_processor_of_transformers_is_refused(lean_answerer):
    class Theirs(LogitsProcessor):
        def __call__(self, input_ids, scores):
            return scores

    with pytest.raises(UsageError, match="takes no logits processors of transformers"):
        lean_answerer.answer([], QUESTION, logits_processor=Theirs())


def test_an_answer_without_pytorch_transformers_and_optimum(bundle_folder, picture_file):
    """In a process that refuses to import them."""
    program = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "optimum", "onnx", "scipy"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Refuse())
from laco_engines.cli import main
sys.exit(main(sys.argv[1:]))
"""
    arguments = [
        "run",
        bundle_folder,
        "--image",
        picture_file,
        "--question",
        QUESTION,
        "--json",
        "--max-new-tokens",
        "4",
    ]
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert '"text_runtime": "lean on onnxruntime' in done.stdout
    assert "needs torch, transformers, optimum.onnxruntime" in done.stdout
