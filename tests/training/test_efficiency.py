"""What is not computed: gradients of frozen parts, activations before the merge, logits that nobody reads."""

import pytest
import torch

from laco_training.counted_positions import keep_counted_positions
from laco_training.data import IGNORED
from laco_training.memory import ForwardShape, estimate_memory, kept_activations
from laco_training.padding_picture import add_padding_picture
from laco_training.parameter_groups import parameters_by_group, set_trainable
from laco_training.recipe import StageRecipe

TINY_TOKENS = 4  # of one tile: a 4 x 4 grid merged by 2 x 2


@pytest.fixture
def model(make_tiny_model):
    return make_tiny_model(blocks=4).train()


def batch_of(model, texts=((5, 6, 7), (8, 9))):
    """Rows of one picture and a text whose second half counts, padded at the right."""
    longest = max(map(len, texts))
    ids, labels, mask = [], [], []
    for text in texts:
        image = [model.config.image_token_id] * TINY_TOKENS
        pad = longest - len(text)
        counted = [IGNORED if i < len(text) // 2 else token for i, token in enumerate(text)]
        ids.append([*image, *text, *[0] * pad])
        labels.append([IGNORED] * TINY_TOKENS + counted + [IGNORED] * pad)
        mask.append([1] * (TINY_TOKENS + len(text)) + [0] * pad)
    pixels = torch.randn(len(texts), 3, 56, 56, generator=torch.Generator().manual_seed(0))
    batch = {"input_ids": torch.tensor(ids), "labels": torch.tensor(labels), "attention_mask": torch.tensor(mask)}
    return {**batch, "pixel_values": pixels}


def gradients(model, batch):
    model.zero_grad()
    loss = model(**batch, use_cache=False).loss
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_stage_1_keeps_gradients_of_the_merge_and_the_projector_alone(model):
    set_trainable(model, {"compressor": 1, "projector": 1})
    differentiable = {}
    for index, block in enumerate(model.vision_model.encoder.encoder.layers):
        block.register_forward_hook(
            lambda module, given, made, index=index: differentiable.__setitem__(index, made[0].requires_grad)
        )
    _, found = gradients(model, batch_of(model))
    groups = parameters_by_group(model)
    for name in ("compressor", "projector"):
        assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in groups[name])
    for name in ("encoder", "language_model"):
        assert all(parameter.grad is None for parameter in groups[name])
    assert len(found) == len(groups["compressor"]) + len(groups["projector"])
    assert differentiable == {0: False, 1: False, 2: True, 3: True}  # no graph before the merge after block 2


def test_what_stage_1_keeps_grows_with_the_blocks_after_the_merge(make_tiny_model):
    kept = {}
    for depth in ("1/4", "1/2", "1"):
        model = make_tiny_model(blocks=4, at=depth).train()
        set_trainable(model, {"compressor": 1, "projector": 1})
        kept[depth] = kept_activations(model, ForwardShape(2, 12, 2, 4), precision="fp32")
    assert kept["1/4"] > kept["1/2"] > kept["1"]


def test_the_loss_and_gradients_of_the_counted_positions_are_those_of_all(model):
    batch = batch_of(model, texts=((5, 6, 7, 8, 9, 10), (8, 9)))
    kept = {**batch, **keep_counted_positions(batch["labels"])}
    assert kept["logits_to_keep"].tolist() == [4, 6, 7, 8]  # before 9 of the second row; before 8, 9, 10 of the first
    assert model(**kept, use_cache=False).logits.shape[1] == 4
    (loss, every), (kept_loss, kept_every) = gradients(model, batch), gradients(model, kept)
    assert kept_loss == pytest.approx(loss, rel=1e-6)
    assert every.keys() == kept_every.keys()
    for name, gradient in every.items():
        torch.testing.assert_close(kept_every[name], gradient, rtol=1e-4, atol=1e-6)  # float32 sums in another order


def test_a_batch_in_which_nothing_counts_has_no_loss(model):
    batch = batch_of(model)
    batch["labels"][:] = IGNORED
    loss = model(**{**batch, **keep_counted_positions(batch["labels"])}, use_cache=False, num_items_in_batch=3).loss
    assert loss.item() == 0


@pytest.mark.parametrize("packed", [False, True])
def test_the_padding_picture_changes_nothing_but_reaches_the_tower(model, packed):
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


def test_gradient_checkpointing_keeps_less_and_gives_the_same_gradients(make_tiny_model):
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
    loss, every = gradients(model, batch_of(model))
    model.gradient_checkpointing_enable({"use_reentrant": False})
    loss_again, every_again = gradients(model, batch_of(model))
    assert loss_again == loss
    assert all(torch.equal(every[name], every_again[name]) for name in every)
