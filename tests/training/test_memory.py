"""What a stage takes: the estimate is what autograd keeps, and the merge and gradient checkpointing make it less."""

import pytest
import torch

from laco_training.memory import ForwardShape, estimate_memory, kept_activations
from laco_training.parameter_groups import set_trainable
from laco_training.recipe import StageRecipe


def test_what_stage_1_keeps_grows_with_the_blocks_after_the_merge(make_tiny_model):
    bytes_at = {}
    for depth in ("1/4", "1/2", "1"):
        model = make_tiny_model(blocks=4, at=depth).train()
        set_trainable(model, {"compressor": 1, "projector": 1})
        bytes_at[depth] = kept_activations(model, ForwardShape(2, 12, 2, 4), precision="fp32")
    assert bytes_at["1/4"] > bytes_at["1/2"] > bytes_at["1"]


@pytest.mark.parametrize(
    "trained", [("compressor", "projector"), ("encoder", "compressor", "projector", "language_model")]
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_estimate_is_what_autograd_keeps(make_tiny_model, trained, precision):
    """The same count on tensors without content as on real ones."""
    stage = StageRecipe("d", dict.fromkeys(trained, 1e-3), precision=precision)
    shape = ForwardShape(rows=2, tokens=12, tiles=2, counted=4)
    model = make_tiny_model(blocks=4).train()
    set_trainable(model, stage.learning_rates)
    estimate = estimate_memory(lambda: make_tiny_model(blocks=4), stage, shape)
    logits_gradient = 4 * 2 * 4 * 264
    assert estimate.activations - logits_gradient == kept_activations(model, shape, precision=precision)
    trained_numbers = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert estimate.gradients == 4 * trained_numbers
    assert estimate.optimizer == 8 * trained_numbers
    assert estimate.weights == 4 * sum(p.numel() for p in model.parameters())


def test_gradient_checkpointing_keeps_less_and_gives_the_same_gradients(make_tiny_model, make_batch, gradients):
    shape = ForwardShape(rows=2, tokens=60, tiles=2, counted=4)
    rates = dict.fromkeys(("encoder", "compressor", "projector", "language_model"), 1e-3)
    plain, checkpointed = (
        estimate_memory(
            lambda: make_tiny_model(blocks=4),
            StageRecipe("d", rates, precision="fp32", gradient_checkpointing=on),
            shape,
        )
        for on in (False, True)
    )
    assert checkpointed.activations < 0.7 * plain.activations
    model = make_tiny_model(blocks=4).train()
    loss, every = gradients(model, make_batch(model))
    model.gradient_checkpointing_enable({"use_reentrant": False})
    loss_again, every_again = gradients(model, make_batch(model))
    assert loss_again == loss
    assert all(torch.equal(every[name], every_again[name]) for name in every)
