"""A batch without pictures reaches every part of the model, and learns what it would have learnt."""

import pytest
import torch

from laco_training.data import IGNORED
from laco_training.padding_picture import add_padding_picture


@pytest.fixture
def model(make_tiny_model):
    return make_tiny_model(blocks=4).train()


@pytest.mark.parametrize("packed", [False, True])
def test_the_padding_picture_changes_nothing_but_reaches_the_tower(model, gradients, packed):
    text = torch.tensor([[5, 6, 7, 8], [9, 10, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    batch = {"input_ids": text, "labels": text.where(mask.bool(), IGNORED), "attention_mask": mask}
    if packed:
        row = torch.tensor([[5, 6, 7, 8, 9, 10]])
        positions = torch.tensor([[0, 1, 2, 3, 0, 1]])
        labels = torch.tensor([[IGNORED, 6, 7, 8, IGNORED, 10]])
        batch = {"input_ids": row, "labels": labels, "position_ids": positions}
    padded = add_padding_picture(batch, model.config)
    assert padded["pixel_values"].shape == (1, 3, 56, 56)
    (loss, every), (padded_loss, padded_every) = gradients(model, batch), gradients(model, padded)
    assert padded_loss == pytest.approx(loss, rel=1e-6)
    for name, gradient in padded_every.items():
        if name in every:
            torch.testing.assert_close(gradient, every[name], rtol=1e-4, atol=1e-7)
        else:
            assert gradient.abs().max() == 0, name  # the tower and the projector
    assert any(name.startswith("vision_model.encoder") for name in padded_every)
