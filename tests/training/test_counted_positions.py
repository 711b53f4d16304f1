"""Logits of the counted positions alone give the loss and the gradients of all."""

import pytest
import torch

from laco_training.counted_positions import keep_counted_positions
from laco_training.data import IGNORED


@pytest.fixture
def model(make_tiny_model):
    return make_tiny_model(blocks=4).train()


def test_the_loss_and_gradients_of_the_counted_positions_are_those_of_all(model, make_batch, gradients):
    batch = make_batch(model, texts=((5, 6, 7, 8, 9, 10), (8, 9)))
    restricted = {**batch, **keep_counted_positions(batch["labels"])}
    # before 9 of the second row; before 8, 9, 10 of the first
    assert restricted["logits_to_keep"].tolist() == [4, 6, 7, 8]
    assert model(**restricted, use_cache=False).logits.shape[1] == 4
    (loss, every), (restricted_loss, restricted_every) = gradients(model, batch), gradients(model, restricted)
    assert restricted_loss == pytest.approx(loss, rel=1e-6)
    assert every.keys() == restricted_every.keys()
    for name, gradient in every.items():
        # float32 sums in another order
        torch.testing.assert_close(restricted_every[name], gradient, rtol=1e-4, atol=1e-6)


def test_a_batch_in_which_nothing_counts_has_no_loss(model, make_batch):
    batch = make_batch(model)
    batch["labels"][:] = IGNORED
    loss = model(**{**batch, **keep_counted_positions(batch["labels"])}, use_cache=False, num_items_in_batch=3).loss
    assert loss.item() == 0
