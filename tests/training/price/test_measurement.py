"""Prices by their definition: on models whose prices are known, and against the model's own features and answers."""

import pytest
import torch

from laco_export.errors import NotFiniteError
from laco_export.merge_path import MergePath
from laco_export.models.flops import vision_flops
from laco_training.distillation.pooling import average_windows
from laco_training.price.measurement import REFERENCE, SeenAnswer, answer, compare_answers, measure_prices, steps_of
from laco_training.price.samples import find_samples
from laco_training.price.subjects import open_subjects


@pytest.fixture(scope="module")
def subjects(whole_checkpoint):
    return open_subjects(whole_checkpoint, None, ["1", "1/2"])


@pytest.fixture(scope="module")
def samples(photos):
    samples = find_samples(photos, None, 100)
    samples.drop_broken(1.0)
    return samples


@pytest.fixture(scope="module")
def rows(subjects, samples):
    advanced = []
    rows = measure_prices(subjects, samples, max_new_tokens=6, advance=lambda steps=1, *_: advanced.append(steps))
    assert sum(advanced) == steps_of(subjects, samples)
    return rows


def test_rows_are_the_reference_and_the_depths(rows, subjects):
    assert [(row.at, row.path and row.path.blocks, row.tokens) for row in rows] == [
        (REFERENCE, None, 16),
        ("1", (4,), 4),
        ("1/2", (2,), 4),
    ]
    assert rows[0].flops == vision_flops(subjects.reference.config).total
    assert (
        rows[2].flops
        == vision_flops(subjects.merged.config, path=MergePath((2,), (2,))).total
        < rows[1].flops
        < rows[0].flops
    )
    assert all(row.encode["milliseconds"] > 0 for row in rows)


def test_errors_are_those_of_the_features(rows, subjects, samples):
    sample, priced = samples[3], rows[2].samples[3]
    pixels = subjects.reference_processor(images=sample.pictures, text="<image>", return_tensors="pt")["pixel_values"]
    subjects.merged.set_depth("1/2")
    with torch.no_grad():
        targets = average_windows(subjects.reference.get_image_features(pixels), (4, 4), (2,))[0]
        features = subjects.merged.get_image_features(pixels)[0]
    assert priced.name == sample.name
    assert priced.relative_error == pytest.approx(((features - targets).norm() / targets.norm()).item() ** 2, rel=1e-4)
    cosines = torch.cosine_similarity(features, targets, dim=-1)
    assert priced.cosine == pytest.approx(cosines.mean().item(), abs=1e-5)
    squares = (features - targets).square().sum(-1) / targets.square().sum(-1).mean()
    assert priced.token_errors == pytest.approx(squares.tolist(), rel=1e-4)
    assert sum(priced.token_errors) / 4 == pytest.approx(priced.relative_error, rel=1e-4)
    assert rows[2].mean("relative_error") == pytest.approx(sum(s.relative_error for s in rows[2].samples) / 6)
    worst = rows[2].worst(2)
    assert worst[0].relative_error >= worst[1].relative_error == sorted(s.relative_error for s in rows[2].samples)[-2]


@pytest.mark.parametrize(
    ("before", "after", "same_answer", "same_first", "share"),
    [
        ([5, 6, 7, 8], [5, 6, 7, 8], True, True, 1.0),
        ([5, 6, 7, 8], [5, 6, 9, 8], False, True, 0.5),
        ([5, 6, 7, 8], [5], False, True, 0.25),
        ([5], [5, 6], False, True, 1.0),
        ([5, 6], [6, 6], False, False, 0.0),
    ],
)
def test_how_much_of_an_answer_stays(samples, before, after, same_answer, same_first, share):
    features = torch.randn(1, 4, 8)
    seen = [SeenAnswer(tokens, str(tokens), features) for tokens in (before, after)]
    priced = compare_answers(samples[0], *seen, features)
    assert (priced.same_answer, priced.same_first_token, priced.tokens_kept) == (same_answer, same_first, share)
    assert (priced.before, priced.after, priced.relative_error) == (str(before), str(after), 0)


def test_answers_are_the_models_own(rows, subjects, samples):
    """By argmax over whole forward passes, without ``generate``."""
    sample, priced = samples[2], rows[1].samples[2]
    processor = subjects.at_depth("1")
    expected = _greedy(subjects.merged, processor, sample, 6)
    assert answer(subjects.merged, processor, sample, 6).token_ids == expected
    before = _greedy(subjects.reference, subjects.reference_processor, sample, 6)
    alike = next((place for place, (a, b) in enumerate(zip(before, expected)) if a != b), len(before))
    assert priced.same_answer == (before == expected)
    assert priced.same_first_token == (before[0] == expected[0])
    assert priced.tokens_kept == pytest.approx(alike / len(before))


def test_a_path_of_merges_is_compared_with_the_means_of_means(whole_checkpoint, samples):
    subjects = open_subjects(whole_checkpoint, None, ["1/4+3/4"])
    reference, row = measure_prices(subjects, samples, max_new_tokens=1, advance=lambda *_: None)
    assert row.tokens == 1 and row.flops < reference.flops
    sample = samples[0]
    pixels = subjects.reference_processor(images=sample.pictures, text="<image>", return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        target = subjects.reference.get_image_features(pixels).mean(1)
        error = (subjects.merged.get_image_features(pixels)[:, 0] - target).norm() / target.norm()
    assert row.samples[0].relative_error == pytest.approx(error.item() ** 2, rel=1e-4)


def test_a_window_outside_leaves_as_many_tokens(make_tiny_model, make_tiny_checkpoint, samples, tmp_path):
    """Behind the last block the folded projector differs from the window outside by what averaging loses."""
    model = make_tiny_model("internvit", blocks=2, at="1", method=None, projector={"window": 2, "norm": True})
    subjects = open_subjects(make_tiny_checkpoint(model, tmp_path / "window"), None, ["1"])
    reference, row = measure_prices(subjects, samples, max_new_tokens=1, advance=lambda *_: None)
    assert reference.tokens == row.tokens == 4
    assert 0 < row.mean("relative_error") < 1


def test_a_merge_that_costs_nothing(make_tiny_model, make_tiny_checkpoint, samples, tmp_path):
    """Behind the last block, before a projector that is linear, averaging is what the targets are."""
    model = make_tiny_model("siglip", blocks=2, at="1", method=None)
    model.projector.act = torch.nn.Identity()
    folder = make_tiny_checkpoint(model, tmp_path / "linear")
    subjects = open_subjects(folder, None, ["1"])
    for side in (subjects.reference, subjects.merged):
        side.projector.act = torch.nn.Identity()
    _, row = measure_prices(subjects, samples, max_new_tokens=2, advance=lambda *_: None)
    assert row.mean("relative_error") < 1e-9 and row.mean("cosine") > 1 - 1e-5


def test_features_that_are_no_numbers(whole_checkpoint, samples):
    subjects = open_subjects(whole_checkpoint, None, ["1/2"])
    with torch.no_grad():
        subjects.merged.vision_model.compressors["block_2"].mlp.linear_2.bias.fill_(float("inf"))
    with pytest.raises(NotFiniteError, match="are inf or NaN"):
        measure_prices(subjects, samples, max_new_tokens=1, advance=lambda *_: None)


@torch.no_grad()
def _greedy(model, processor, sample, count):
    from laco_export.conversation import render

    prompt = render(sample.turns, add_generation_prompt=True)
    inputs = processor(images=sample.pictures, text=prompt, return_tensors="pt")
    ids, ends = inputs["input_ids"], processor.tokenizer.eos_token_id
    tokens = []
    while len(tokens) < count and ends not in tokens:
        batch = {"input_ids": ids, "pixel_values": inputs["pixel_values"], "use_cache": False}
        tokens.append(model(**batch).logits[0, -1].argmax().item())
        ids = torch.cat((ids, torch.tensor([tokens[-1:]])), 1)
    return tokens
