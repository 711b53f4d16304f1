"""Every parameter has its part's learning rate; the merge layer is never taken for the encoder."""

import pytest
import torch
from transformers import Trainer

from laco_export.models import checkpoint
from laco_training.optimizers import MuonWithAdamW, embedding_ids, split_matrices
from laco_training.parameter_groups import optimizer_groups, parameters_by_group, set_trainable
from laco_training.schedule import cosine_schedule

RATES = {"encoder": 2e-6, "compressor": 1e-5, "projector": 3e-5, "language_model": 4e-5}


@pytest.fixture
def model(tiny_checkpoint):
    return checkpoint.load(tiny_checkpoint).model


def test_each_parameter_stands_in_its_group_once(model):
    groups = {group["name"]: group for group in optimizer_groups(model, RATES, 0.0)}
    assert {name: group["lr"] for name, group in groups.items()} == RATES
    rate_of = {id(p): group["lr"] for group in groups.values() for p in group["params"]}
    for name, parameter in model.named_parameters():
        part = name.split(".")[1] if name.startswith("vision_model") else name.split(".")[0]
        expected = RATES["compressor" if part == "compressors" else part]
        assert rate_of[id(parameter)] == expected, name
    assert len(rate_of) == len(list(model.parameters()))


def test_what_decays_is_what_decays_in_hf_trainer(model):
    """But for AIMv2's numbered norms, which HF's patterns of names miss; and a tied head has one name here."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = optimizer_groups(model, RATES, 0.1)
    assert sorted(id(p) for group in groups for p in group["params"]) == sorted(names)
    decaying = {names[id(p)] for group in groups if group["weight_decay"] for p in group["params"]}
    by_hf = {name for name in Trainer.get_decay_parameter_names(None, model) if ".rms_norm" not in name}
    assert decaying == by_hf - {"language_model.lm_head.weight"}
    assert {(group["name"], group["lr"]) for group in groups} == set(RATES.items())
    assert {group["weight_decay"] for group in groups} == {0.0, 0.1}


def test_the_newline_goes_with_the_projector(model):
    model.image_newline = torch.nn.Parameter(torch.zeros(4))
    assert any(p is model.image_newline for p in parameters_by_group(model)["projector"])


def test_a_parameter_outside_the_parts_is_noticed(model):
    model.extra = torch.nn.Linear(2, 2)
    with pytest.raises(RuntimeError, match="not those of the whole model"):
        parameters_by_group(model)


def test_only_the_named_groups_are_trained(model):
    set_trainable(model, {"compressor": 1, "projector": 1})
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained
    assert all(".compressors." in name or name.startswith("projector.") for name in trained)
    assert sum("projector" in name for name in trained) == 4


def test_stage_1_keeps_gradients_of_the_merge_and_the_projector_alone(make_tiny_model, make_batch, gradients):
    model = make_tiny_model(blocks=4).train()
    set_trainable(model, {"compressor": 1, "projector": 1})
    differentiable = {}
    for index, block in enumerate(model.vision_model.encoder.encoder.layers):
        block.register_forward_hook(
            lambda module, inputs, outputs, index=index: differentiable.__setitem__(index, outputs[0].requires_grad)
        )
    _, every = gradients(model, make_batch(model))
    groups = parameters_by_group(model)
    for name in ("compressor", "projector"):
        assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in groups[name])
    for name in ("encoder", "language_model"):
        assert all(parameter.grad is None for parameter in groups[name])
    assert len(every) == len(groups["compressor"]) + len(groups["projector"])
    assert differentiable == {0: False, 1: False, 2: True, 3: True}  # no graph before the merge after block 2


def test_muon_takes_the_matrices_and_adamw_the_rest(model):
    embeddings = embedding_ids(model)
    groups = [part for group in optimizer_groups(model, RATES, 0.0) for part in split_matrices(group, embeddings)]
    for group in groups:
        for parameter in group["params"]:
            assert group["muon"] == (parameter.ndim == 2 and id(parameter) not in embeddings)
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    optimizer = MuonWithAdamW(groups)
    before = [parameter.clone() for parameter in model.parameters()]
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    assert all(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


def test_every_group_ends_at_the_floor():
    """cosine_with_min_lr scales by one base rate, and would end the encoder's group at 2e-8."""
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in RATES]
    groups = [{"params": [p], "lr": rate} for p, rate in zip(parameters, RATES.values(), strict=True)]
    optimizer = torch.optim.AdamW(groups)
    scheduler = cosine_schedule(optimizer, total_steps=100, warmup_ratio=0.1, min_learning_rate=1e-7)
    seen = []
    for _ in range(100):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    peaks = list(RATES.values())
    assert max(seen[0]) < max(peaks) / 5  # it warms up
    assert seen[10] == pytest.approx(peaks, rel=0.02)
    middle = [(peak + 1e-7) / 2 for peak in peaks]
    assert seen[55] == pytest.approx(middle, rel=0.05)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([1e-7] * 4, rel=1e-3)
