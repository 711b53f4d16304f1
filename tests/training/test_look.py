"""What a picture is worth: exchanged among samples, measured per answer token, and told apart from chance."""

import json
import math

import pytest
import torch

from laco_export.layout_rules import SINGLE_TILE, VIDEO_FRAME
from laco_export.tiling import Tiling
from laco_export.token_layouts import layouts
from laco_training.look import LEAST_SAMPLES, LEAST_WORTH, Look, exchange_partners, joined_look, measure_look


def look(worth=0.5, error=0.1, **changes):
    values = {
        "samples": 8,
        "tokens": 80,
        "loss": 2.0,
        "exchanged_loss": 2.0 + worth,
        "error": error,
        "visual_rms": 0.3,
        "text_rms": 0.1,
        "between_tiles": 0.25,
    }
    return Look(**{**values, **changes})


TEXTS = ((5, 6, 7, 8), (8, 9, 10), (11, 12), (5, 9, 11, 6))


@pytest.fixture
def model(make_tiny_model):
    return make_tiny_model().eval()


def loss_by_row(model, batch):
    """Cross entropy summed over each row's counted tokens, of the model's whole logits."""
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    with torch.no_grad():
        logits = model(**inputs).logits[:, :-1].double()
    picked = torch.log_softmax(logits, -1).gather(-1, batch["labels"][:, 1:].clamp(min=0)[..., None])[..., 0]
    return -(picked * (batch["labels"][:, 1:] != -100)).sum(1)


def test_losses_are_those_of_own_and_of_exchanged_pictures(model, make_batch):
    batch = make_batch(model, texts=TEXTS)
    measured = measure_look(model, [batch])
    rolled = {**batch, "pixel_values": batch["pixel_values"].roll(-1, 0)}
    tokens = (batch["labels"] != -100).sum().item()
    own, exchanged = (loss_by_row(model, each) for each in (batch, rolled))
    assert (measured.samples, measured.tokens) == (4, tokens)
    assert measured.loss == pytest.approx(own.sum().item() / tokens, rel=1e-5)
    assert measured.exchanged_loss == pytest.approx(exchanged.sum().item() / tokens, rel=1e-5)
    assert measured.worth == pytest.approx((exchanged - own).sum().item() / tokens, abs=1e-6)


def test_embeddings_are_described_as_the_language_model_reads_them(model, make_batch):
    batch = make_batch(model, texts=TEXTS)
    measured = measure_look(model, [batch])
    with torch.no_grad():
        visual = model.get_image_features(batch["pixel_values"]).double()  # [4, T, D]
        text = model.get_input_embeddings()(torch.tensor([token for text in TEXTS for token in text])).double()
    assert measured.visual_rms == pytest.approx(visual.pow(2).mean().sqrt().item(), rel=1e-6)
    assert measured.text_rms == pytest.approx(text.pow(2).mean().sqrt().item(), rel=1e-6)
    centred = visual - visual.mean((0, 1))
    between = centred.mean(1).pow(2).sum(-1).mean() / centred.pow(2).sum(-1).mean()
    assert measured.between_tiles == pytest.approx(between.item(), rel=1e-6)


def test_batches_add_up(model, make_batch):
    """The same figures as one batch of both, where nobody lends across."""
    batch = make_batch(model, texts=TEXTS)
    twice = measure_look(model, [batch, batch])
    once = measure_look(model, [batch])
    assert (twice.samples, twice.tokens) == (8, 2 * once.tokens)
    for name in ("worth", "visual_rms", "text_rms", "between_tiles"):
        assert getattr(twice, name) == pytest.approx(getattr(once, name), rel=1e-9)


def test_packed_samples_exchange_their_pictures_too(model, make_batch):
    """One row of four samples gives what four rows give."""
    batch = make_batch(model, texts=((5, 6, 7), (8, 9, 10), (11, 12, 5), (6, 9, 12)))
    width = batch["input_ids"].shape[1]
    packed = {
        "input_ids": batch["input_ids"].reshape(1, -1),
        "labels": batch["labels"].reshape(1, -1),
        "position_ids": torch.arange(width).repeat(4)[None],
        "pixel_values": batch["pixel_values"],
    }
    rows, row = measure_look(model, [batch]), measure_look(model, [packed])
    assert row.samples == rows.samples == 4 and row.tokens == rows.tokens
    assert row.loss == pytest.approx(rows.loss, rel=1e-4)
    assert row.exchanged_loss == pytest.approx(rows.exchanged_loss, rel=1e-4)


def test_one_picture_in_all_samples_cannot_be_exchanged(model, make_batch):
    batch = make_batch(model, texts=TEXTS)
    batch["pixel_values"] = batch["pixel_values"][:1].expand(4, -1, -1, -1).clone()
    assert measure_look(model, [batch]) is None
    assert measure_look(model, [{name: value for name, value in batch.items() if name != "pixel_values"}]) is None


def test_few_samples_say_nothing(model, make_batch):
    batch = make_batch(model, texts=TEXTS[: LEAST_SAMPLES - 1])
    assert measure_look(model, [batch]) is None
    assert measure_look(model, [batch, batch]).samples == 2 * (LEAST_SAMPLES - 1)


def test_samples_without_an_answer_are_left_out(model, make_batch):
    batch = make_batch(model, texts=(*TEXTS, (5, 6, 7)))
    batch["labels"][-1] = -100
    assert measure_look(model, [batch]).samples == 4


def test_the_model_trains_on_as_before(model, make_batch):
    model.train()
    measure_look(model, [make_batch(model, texts=TEXTS)])
    assert model.training and all(module.training for module in model.modules())
    assert not any(module._forward_hooks for module in (model.projector, model.get_input_embeddings()))
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("owners", "sizes", "shown", "partners"),
    [
        ([0, 1, 2], [SINGLE_TILE] * 3, "abc", [1, 2, 0]),
        ([0, 0, 1, 1], [VIDEO_FRAME] * 4, "abcd", [2, 2, 0, 0]),  # frames come from another video
        ([0, 1, 2], [SINGLE_TILE] * 3, "aab", [2, 2, 0]),  # one picture in two samples is no exchange
        ([0, 1, 2, 3], [SINGLE_TILE, (100, 50), SINGLE_TILE, (50, 50)], "abcd", [2, None, 0, None]),
        ([0, 1], [(100, 50), (200, 100)], "ab", [1, 0]),  # of other pixels, in the same grid
        ([0], [SINGLE_TILE], "a", [None]),
    ],
)
def test_pictures_are_exchanged_with_those_of_the_same_layout(owners, sizes, shown, partners):
    plans = layouts(sizes, grid=(2, 2), tiling=Tiling(56, max_rows=3, max_columns=1))
    tiles = [torch.full((plan.tiles, 1), float(ord(letter))) for plan, letter in zip(plans, shown, strict=True)]
    assert exchange_partners(owners, plans, tiles) == partners


@pytest.mark.parametrize(
    "worth, error, nothing",
    [(0.5, 0.1, False), (0.19, 0.1, True), (LEAST_WORTH / 2, 1e-6, True), (-0.3, 0.01, True)],
)
def test_a_worth_must_be_surely_above_nothing(worth, error, nothing):
    measured = look(worth, error)
    assert measured.worth_nothing is nothing
    assert ("worth nothing" in measured.verdict()) is nothing


def test_the_verdict_says_what_is_wrong_with_the_embeddings():
    verdict = look(0.0, 0.1, visual_rms=2.7, between_tiles=0.01).verdict()
    assert (
        "27 x the text's" in verdict
        and "1% of their variance lies between tiles" in verdict
        and "learning rates" in verdict
    )


def test_looks_join_by_their_tokens():
    both = joined_look([look(0.2, 0.1, tokens=10, samples=1).to_dict(), look(0.6, 0.2, tokens=30, samples=3).to_dict()])
    assert (both.samples, both.tokens) == (4, 40)
    assert both.worth == pytest.approx(0.5)
    assert both.error == pytest.approx(math.hypot(0.25 * 0.1, 0.75 * 0.2))
    assert joined_look([]) is None


def test_plain_values_can_be_stored():
    stored = json.loads(json.dumps(look().to_dict()))
    assert stored["worth"] == pytest.approx(0.5) and stored["rms_over_text"] == pytest.approx(3)
    assert stored["worth_nothing"] is False
