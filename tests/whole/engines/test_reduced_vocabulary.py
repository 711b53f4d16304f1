"""A bundle with a reduced vocabulary answers as the whole one does whose other tokens are forbidden, on every way of an
answer: both text runtimes, penalties, sampling, scores, batches, stop strings, prompt lookup, the KV cache."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from laco_engines.answering import Answerer
from laco_engines.cli import main
from laco_engines.generation.logits_processors import BestTwo
from laco_engines.generation.options import GenerationOptions
from laco_engines.generation.streaming import RowText
from laco_engines.generation.text_runtime import EmbeddedPrompt, choose_text_runtime
from laco_engines.trial import try_bundle
from laco_export.bundle import open_bundle

from .conftest import ASSETS

TEXTS = [f"{colour} {shape} on the {side}." for colour in ("red", "blue") for shape in ("circle", "square")
         for side in ("left", "right")]  # fmt: skip
QUESTION = "What is in the picture?"
RUNTIMES = ("optimum", "lean")
NEVER_SAID = 447  # <|video_pad|>
OPTIONS = {
    "greedy": {},
    "repetition": {"repetition_penalty": 1.7},
    "presence": {"presence_penalty": 1.5, "frequency_penalty": -0.5},
    "sampled": {"temperature": 1.5, "top_k": 0, "seed": 5},
    "nucleus": {"temperature": 1.5, "top_k": 0, "top_p": 0.9, "min_p": 0.001, "seed": 6},
}


class Forbid:
    """A logits processor under which some tokens cannot be said."""

    def __init__(self, token_ids):
        self._token_ids = token_ids

    def __call__(self, answers, logits):
        allowed = logits.copy()
        allowed[:, self._token_ids] = -np.inf
        return allowed


@pytest.fixture(scope="module")
def exported(traced_once, tmp_path_factory):
    """Reports of the tiny checkpoint's export with a reduced vocabulary, asked before it got its name, and without."""
    from laco_export.exporter.options import ExportOptions
    from laco_export.exporter.pipeline import export_bundle

    folder = tmp_path_factory.mktemp("vocabulary")
    (folder / "texts.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in TEXTS))
    options = {"precision": "fp32", "compile": False}
    checkpoint, texts = ASSETS / "tiny-checkpoint", [folder / "texts.jsonl"]
    return SimpleNamespace(
        reduced=export_bundle(
            ExportOptions(checkpoint, **options, output=folder / "reduced", vocabulary=texts), try_bundle
        ),
        whole=export_bundle(ExportOptions(checkpoint, **options, output=folder / "whole")),
    )


@pytest.fixture(scope="module")
def opened(exported):
    """``opened(runtime)``: an answerer of the reduced bundle, one of the whole, and the tokens without a row."""
    answerers = {}

    def get(runtime):
        if runtime == "optimum" and choose_text_runtime()[0] != "optimum":
            pytest.skip(choose_text_runtime()[1][0])
        if runtime not in answerers:
            reduced, whole = (
                Answerer(open_bundle(report.output), text_runtime=runtime, threads=1)
                for report in (exported.reduced, exported.whole)
            )
            left_out = np.flatnonzero(np.isneginf(reduced.text.logits(reduced.text.embed(np.array([1, 2])), 1)[0]))
            answerers[runtime] = reduced, whole, left_out
        for answerer in answerers[runtime][:2]:
            answerer.forget()
        return answerers[runtime]

    return get


def test_what_is_left_out_is_recorded_and_shown(exported, capsys):
    entry = exported.reduced.manifest.decoder
    assert exported.whole.manifest.decoder.vocabulary is None
    assert (entry.vocabulary["of"], entry.vocab_size) == (448, 448)
    assert 263 < entry.vocabulary["rows"] < 300
    assert entry.vocabulary["bytes_saved"] == (448 - entry.vocabulary["rows"]) * entry.hidden_size * 4
    assert entry.vocabulary["left_out"][0]["script"] == "Latin"
    text = (exported.whole.output / "laco.json").read_text()
    assert "reduced" not in text and "left_out" not in text and '"vocabulary"' not in text
    assert main(["inspect", str(exported.reduced.output)]) == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert f"{entry.vocabulary['rows']} of 448 tokens have a row, chosen from texts.jsonl" in shown
    assert "not all tokens: Latin" in shown and "of the judged text" in shown
    assert main(["inspect", str(exported.reduced.output), "--json"]) == 0
    assert '"held_out_coverage"' in capsys.readouterr().out


def test_the_finished_bundle_answers_as_pytorch_does_among_its_tokens(exported):
    parts = exported.reduced.trial["parts"]
    assert len(parts) >= 3 and all(part["passed"] for part in parts)
    (note,) = [note for note in exported.reduced.manifest.notes if "reduced vocabulary" in note]
    assert "the whole head's best has no row" in note


def say(answerer, prompts, *, processors=(), stop=(), **options):
    """What the text runtime says to prompts of token ids, 24 tokens each: a list of rows."""
    rows = [RowText(answerer.prompter.tokenizer, end_tokens=[NEVER_SAID], limit=24, stop=stop) for _ in prompts]
    embedded = [EmbeddedPrompt(ids, answerer.text.embed(ids)) for ids in prompts]
    answerer.text.generate(embedded, rows, GenerationOptions(**options), processors=processors)
    return rows


@pytest.fixture(scope="module")
def prompts():
    """Random tokens, also such as have no row: a prompt may hold any."""
    random = np.random.default_rng(0)
    return [random.integers(0, 441, length) for length in (3, 17, 40)]


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_answers_are_those_of_the_whole_head_without_the_others(opened, prompts, runtime, options):
    reduced, whole, left_out = opened(runtime)
    assert len(left_out) > 100
    said, scores = [], []
    for answerer, forbidding in ((reduced, []), (whole, [Forbid(left_out)])):
        said.append([])
        for ids in prompts:
            best_two = BestTwo()
            said[-1].append(say(answerer, [ids], processors=[*forbidding, best_two], **options)[0].token_ids)
            scores.append(np.array(best_two.steps)[..., 1])
    assert said[0] == said[1]
    assert len({tuple(tokens) for tokens in said[0]}) == 3
    assert not {token for tokens in said[0] for token in tokens} & set(left_out.tolist())
    np.testing.assert_allclose(np.concatenate(scores[:3]), np.concatenate(scores[3:]), atol=1e-3)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_the_whole_head_says_in_its_tokens_is_said_unchanged(opened, make_picture, runtime):
    """Until the whole head says what has no row."""
    reduced, whole, left_out = opened(runtime)
    lengths = []
    for seed in range(6):
        for pictures, question in (([make_picture(seed)], QUESTION), ([], f"Say {seed}.")):
            ours, theirs = (each.answer(pictures, question, max_new_tokens=16).token_ids for each in (reduced, whole))
            same = next((place for place, token in enumerate(theirs) if token in left_out), len(theirs))
            assert ours[:same] == theirs[:same]
            lengths.append(same)
    assert max(lengths) >= 3 and sum(lengths) > 10


def test_a_batch_and_a_stop_string_end_alike(opened, prompts):
    reduced, _, _ = opened("lean")
    alone = [say(reduced, [ids])[0] for ids in prompts]
    assert [row.token_ids for row in say(reduced, prompts)] == [row.token_ids for row in alone]
    ids, text = max(zip(prompts, (row.text() for row in alone)), key=lambda pair: len(pair[1]))
    stop = text[len(text) // 2 :][:2]
    (stopped,) = say(reduced, [ids], stop=(stop,))
    assert (stopped.text(), stopped.finish) == (text.partition(stop)[0], "stop")


def test_a_second_question_goes_on_from_the_first_ones_cache(opened, make_picture):
    reduced, _, _ = opened("lean")
    first = reduced.answer([make_picture(1)], QUESTION, max_new_tokens=8)
    again = reduced.answer([make_picture(1)], QUESTION, max_new_tokens=8)
    assert again.cached_tokens > 0 and again.token_ids == first.token_ids


def test_drafts_of_tokens_without_a_row_are_never_accepted(opened):
    """The prompt goes on with such a token wherever its last words stood before."""
    reduced, _, left_out = opened("lean")
    words = [token for token in range(40, 60) if token not in left_out][:3]
    ids = np.array(([*words, int(left_out[5])] * 6 + words) * 3)
    plain, drafted = (say(reduced, [ids], **options)[0] for options in ({}, {"prompt_lookup": "exact"}))
    assert plain.token_ids == drafted.token_ids
    assert not set(plain.token_ids) & set(left_out.tolist())
    assert drafted.passes is not None and np.isfinite(reduced.text.pass_costs.rounding)
