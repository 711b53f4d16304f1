"""The file of PyTorch's answers: written, read back, and refused where it is not of the bundle's model."""

import dataclasses
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest

from laco_export.errors import BundleError
from laco_export.golden_answers import (
    BEST_LOGITS,
    GOLDEN_ANSWERS_NAME,
    EmbeddingSample,
    GoldenAnswer,
    GoldenAnswers,
    GoldenQuestion,
    PackingSample,
    montage,
    read_golden_answers,
    sampled_logits,
    write_golden_answers,
)

VOCABULARY, WIDTH = 300, 8


@pytest.fixture
def golden():
    random = np.random.default_rng(0)
    answers = []
    for question in (GoldenQuestion("What?", ()), GoldenQuestion("Which?", (0, 2), as_one=True)):
        ids, logits = sampled_logits(random.normal(size=(3, VOCABULARY)).astype(np.float32))
        answers.append(GoldenAnswer(question, np.arange(7), ids[:, 0].copy(), ids, logits))
    rows = random.normal(size=(4, 2)).astype(np.float32)
    return GoldenAnswers(
        tuple(answers),
        EmbeddingSample(np.array([0, 5, 9, 299]), np.array([0, 7]), rows),
        newline=np.ones(WIDTH, np.float32),
        packing=PackingSample(np.array([0, 3]), np.ones((2, WIDTH), np.float32)),
    )


@pytest.fixture
def bundle(tmp_path):
    decoder = SimpleNamespace(vocab_size=VOCABULARY, hidden_size=WIDTH, context_length=64)
    manifest = SimpleNamespace(golden_answers=GOLDEN_ANSWERS_NAME, decoder=decoder)
    return SimpleNamespace(
        path=tmp_path, manifest=manifest, file=lambda name: tmp_path / name, unchanged=lambda *names: nullcontext()
    )


def assert_equal(read, written):
    for field in dataclasses.fields(written):
        left, right = getattr(read, field.name), getattr(written, field.name)
        if isinstance(right, np.ndarray):
            np.testing.assert_array_equal(left, right)
            assert left.dtype == right.dtype
        elif dataclasses.is_dataclass(right):
            assert_equal(left, right)
        elif field.name == "answers":
            for pair in zip(left, right, strict=True):
                assert_equal(*pair)
        else:
            assert left == right


def test_what_is_written_is_read(golden, bundle):
    write_golden_answers(bundle.path, golden)
    assert_equal(read_golden_answers(bundle, pictures=3), golden)
    plain = dataclasses.replace(golden, newline=None, packing=None)
    write_golden_answers(bundle.path, plain)
    assert_equal(read_golden_answers(bundle, pictures=3), plain)


def test_an_earlier_bundle_has_none(bundle):
    bundle.manifest.golden_answers = None
    assert read_golden_answers(bundle, pictures=3) is None


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("1/pictures", lambda _: np.array([0, 3])),
        ("0/prompt_ids", lambda ids: ids + VOCABULARY),
        ("0/prompt_ids", lambda _: np.zeros(65, np.int64)),
        ("0/token_ids", lambda ids: ids[:2]),
        ("0/token_ids", lambda ids: ids.astype(np.int32)),
        ("0/logit_ids", lambda ids: ids[:, :BEST_LOGITS]),
        ("0/logit_ids", lambda ids: -ids),
        ("0/logits", lambda logits: logits[:, 1:]),
        ("0/logits", lambda logits: np.where(logits == logits.max(), np.nan, logits)),
        ("0/as_one", lambda _: np.array([True])),
        ("questions", lambda texts: texts[:0]),
        ("questions", lambda _: np.array([1, 2])),
        ("embedding/ids", lambda ids: ids + 1),
        ("embedding/columns", lambda columns: columns + 1),
        ("embedding/rows", lambda rows: rows[1:]),
        ("image_newline", lambda newline: newline[1:]),
        ("packing/tokens", lambda tokens: tokens[:, 1:]),
    ],
)
def test_arrays_that_are_not_the_models_are_refused_by_name(golden, bundle, name, change):
    write_golden_answers(bundle.path, golden)
    path = bundle.path / GOLDEN_ANSWERS_NAME
    with np.load(path) as stored:
        arrays = dict(stored)
    arrays[name] = change(arrays[name])
    np.savez(path, **arrays)
    with pytest.raises(BundleError, match=r"golden_answers\.npz") as refused:
        read_golden_answers(bundle, pictures=3)
    assert name.split("/")[0] in refused.value.failed


def test_an_array_that_is_missing_is_named(golden, bundle):
    write_golden_answers(bundle.path, golden)
    path = bundle.path / GOLDEN_ANSWERS_NAME
    with np.load(path) as stored:
        arrays = dict(stored)
    del arrays["1/logits"]
    np.savez(path, **arrays)
    with pytest.raises(BundleError, match="it has no array '1/logits'"):
        read_golden_answers(bundle, pictures=3)


def test_the_best_logits_come_first_and_the_lead_is_theirs():
    logits = np.zeros((1, 100), np.float32)
    logits[0, [40, 7]] = 3, 2
    ids, values = sampled_logits(logits)
    answer = GoldenAnswer(GoldenQuestion("?", ()), np.arange(2), ids[:, 0], ids, values)
    assert ids[0, :2].tolist() == [40, 7]
    assert (answer.best.tolist(), answer.margins.tolist()) == ([40], [1.0])
    assert answer.deviations[0] == pytest.approx(logits.std())  # over all of so small a vocabulary


def test_pictures_are_laid_two_a_row():
    pictures = [np.full((2, 3, 3), value, np.uint8) for value in range(4)]
    whole = montage(pictures)
    assert whole[:, :, 0].tolist() == [[0] * 3 + [1] * 3] * 2 + [[2] * 3 + [3] * 3] * 2
    assert montage(pictures[:1]).shape == (2, 3, 3)
    assert montage(pictures[:3]).shape == (2, 6, 3)  # whole rows alone


def test_a_question_shows_its_pictures():
    pictures = np.arange(3 * 12, dtype=np.uint8).reshape(3, 2, 2, 3)
    shown = GoldenQuestion("?", (2, 0)).shown(pictures)
    assert [np.asarray(picture).tolist() for picture in shown] == [pictures[2].tolist(), pictures[0].tolist()]
    assert GoldenQuestion("?", (2, 0), as_one=True).shown(pictures)[0].size == (4, 2)
    words = [GoldenQuestion("?", tuple(range(count))).pictures_in_words() for count in range(3)]
    assert words == ["without a picture", "a picture", "2 pictures"]
