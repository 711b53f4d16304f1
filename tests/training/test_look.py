"""What a picture is worth: exchanged among samples, measured per answer token, and told apart from chance."""

import json
import math

import pytest
import torch

from laco_export.tiling import SINGLE_TILE, VIDEO_FRAME
from laco_training.look import LEAST_WORTH, Look, exchange_partners, joined_look, measure_look


def look(worth=0.5, error=0.1, **changes):
    values = {
        "samples": 8,
        "tokens": 80,
        "loss": 2.0,
        "exchanged_loss": 2.0 + worth,
        "error": error,
        "visual_rms": 0.3,
        "text_rms": 0.1,
        "between_pictures": 0.25,
    }
    return Look(**{**values, **changes})


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
    batch = make_batch(model, texts=((5, 6, 7, 8), (8, 9, 10), (11, 12)))
    measured = measure_look(model, [batch])
    rolled = {**batch, "pixel_values": batch["pixel_values"].roll(-1, 0)}
    tokens = (batch["labels"] != -100).sum().item()
    own, exchanged = (loss_by_row(model, each) for each in (batch, rolled))
    assert (measured.samples, measured.tokens) == (3, tokens)
    assert measured.loss == pytest.approx(own.sum().item() / tokens, rel=1e-5)
    assert measured.exchanged_loss == pytest.approx(exchanged.sum().item() / tokens, rel=1e-5)
    assert measured.worth == pytest.approx((exchanged - own).sum().item() / tokens, abs=1e-6)


def test_embeddings_are_described_as_the_language_model_reads_them(model, make_batch):
    batch = make_batch(model, texts=((5, 6, 7, 8), (8, 9)))
    measured = measure_look(model, [batch])
    with torch.no_grad():
        visual = model.get_image_features(batch["pixel_values"]).double()  # [2, T, D]
        text = model.get_input_embeddings()(torch.tensor([5, 6, 7, 8, 8, 9])).double()  # no padding
    assert measured.visual_rms == pytest.approx(visual.pow(2).mean().sqrt().item(), rel=1e-6)
    assert measured.text_rms == pytest.approx(text.pow(2).mean().sqrt().item(), rel=1e-6)
    centred = visual - visual.mean((0, 1))
    between = centred.mean(1).pow(2).sum(-1).mean() / centred.pow(2).sum(-1).mean()
    assert measured.between_pictures == pytest.approx(between.item(), rel=1e-6)


def test_batches_add_up(model, make_batch):
    """The same figures as one batch of both, where nobody lends across."""
    texts = ((5, 6, 7, 8), (8, 9, 10, 11))
    batch = make_batch(model, texts=texts)
    twice = measure_look(model, [batch, batch])
    once = measure_look(model, [batch])
    assert (twice.samples, twice.tokens) == (4, 2 * once.tokens)
    for name in ("worth", "visual_rms", "text_rms", "between_pictures"):
        assert getattr(twice, name) == pytest.approx(getattr(once, name), rel=1e-9)


def test_packed_samples_exchange_their_pictures_too(model, make_batch):
    """One row of two samples gives what two rows give."""
    batch = make_batch(model, texts=((5, 6, 7), (8, 9, 10)))
    width = batch["input_ids"].shape[1]
    packed = {
        "input_ids": batch["input_ids"].reshape(1, -1),
        "labels": batch["labels"].reshape(1, -1),
        "position_ids": torch.arange(width).repeat(2)[None],
        "pixel_values": batch["pixel_values"],
    }
    rows, row = measure_look(model, [batch]), measure_look(model, [packed])
    assert row.samples == rows.samples == 2 and row.tokens == rows.tokens
    assert row.loss == pytest.approx(rows.loss, rel=1e-4)
    assert row.exchanged_loss == pytest.approx(rows.exchanged_loss, rel=1e-4)


def test_one_picture_in_all_samples_cannot_be_exchanged(model, make_batch):
    batch = make_batch(model)
    batch["pixel_values"] = batch["pixel_values"][:1].expand(2, -1, -1, -1).clone()
    assert measure_look(model, [batch]) is None
    assert measure_look(model, [{name: value for name, value in batch.items() if name != "pixel_values"}]) is None


def test_the_model_trains_on_as_before(model, make_batch):
    model.train()
    measure_look(model, [make_batch(model)])
    assert model.training and all(module.training for module in model.modules())
    assert not any(module._forward_hooks for module in (model.projector, model.get_input_embeddings()))
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    "owners, sizes, partners",
    [
        ([0, 1, 2], [SINGLE_TILE] * 3, [1, 2, 0]),
        ([0, 0, 1, 1], [VIDEO_FRAME] * 4, [2, 3, 0, 1]),  # frames go to another video
        ([0, 0, 1], [VIDEO_FRAME] * 3, [2, None, 1]),  # the longer video's own frame is no exchange
        ([0, 1, 2], [SINGLE_TILE, (300, 500), SINGLE_TILE], [2, None, 0]),
        ([0], [SINGLE_TILE], [None]),
    ],
)
def test_pictures_go_to_other_samples_of_the_same_layout(owners, sizes, partners):
    assert exchange_partners(owners, sizes) == partners


def test_each_picture_is_lent_once():
    owners = [0, 0, 0, 1, 2, 2, 3]
    lent = [other for other in exchange_partners(owners, [SINGLE_TILE] * 7) if other is not None]
    assert len(lent) == len(set(lent)) >= 6


@pytest.mark.parametrize(
    "worth, error, nothing",
    [(0.5, 0.1, False), (0.19, 0.1, True), (LEAST_WORTH / 2, 1e-6, True), (-0.3, 0.01, True), (0.5, math.inf, True)],
)
def test_a_worth_must_be_surely_above_nothing(worth, error, nothing):
    measured = look(worth, error)
    assert measured.worth_nothing is nothing
    assert ("worth nothing" in measured.verdict()) is nothing


def test_the_verdict_says_what_is_wrong_with_the_embeddings():
    verdict = look(0.0, 0.1, visual_rms=2.7, between_pictures=0.01).verdict()
    assert "27 x the text's" in verdict and "1% of their variance" in verdict and "learning rates" in verdict


def test_looks_join_by_their_tokens():
    both = joined_look([look(0.2, 0.1, tokens=10, samples=1).to_dict(), look(0.6, 0.2, tokens=30, samples=3).to_dict()])
    assert (both.samples, both.tokens) == (4, 40)
    assert both.worth == pytest.approx(0.5)
    assert both.error == pytest.approx(math.hypot(0.25 * 0.1, 0.75 * 0.2))
    assert joined_look([]) is None


def test_plain_values_can_be_stored():
    stored = json.loads(json.dumps(look().to_dict()))
    assert stored["worth"] == pytest.approx(0.5) and stored["worth_nothing"] is False
