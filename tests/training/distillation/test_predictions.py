"""The predictions behind a picture are those that the whole model makes."""

import pytest
import torch

from laco_export.layout_rules import SINGLE_TILE
from laco_training.data import IGNORED
from laco_training.distillation.losses import divergences
from laco_training.distillation.pair import Distillation, LossWeights
from laco_training.distillation.predictions import Answers, answer_logits

TEXTS = (([3, 4], [5, 6, 7]), ([3], [8, 9]))  # before and behind the picture; of the latter all but the first count


@pytest.fixture
def pair(make_pair):
    teacher, student = make_pair(grid=(4, 4))
    with torch.no_grad():
        student.vision_model.compressors.block_2.mlp.linear_2.weight.normal_(0, 0.3)
    return teacher, student


def prompts(model, tokens):
    """A padded batch in which each picture has so many image tokens."""
    rows = [[*before, *[model.config.image_token_id] * tokens, *behind] for before, behind in TEXTS]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    labels = torch.full_like(ids, IGNORED)
    for place, (row, (_, behind)) in enumerate(zip(rows, TEXTS)):
        labels[place, len(row) - len(behind) + 1 : len(row)] = torch.tensor(behind[1:])
    return ids, mask, labels


def pixels():
    return torch.randn(2, 3, 56, 56, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def whole_models_logits(model):
    """At the positions that count, by the model's own ``forward``."""
    ids, mask, labels = prompts(model, model.tokens_per_image)
    logits = model(input_ids=ids, attention_mask=mask, pixel_values=pixels()).logits
    return torch.cat([logits[row, :-1][labels[row, 1:] != IGNORED] for row in range(2)])


@pytest.mark.parametrize("tokens", [1, 4, 16])
def test_one_batch_serves_teacher_and_student(pair, tokens):
    """However many image tokens the batch was prepared with."""
    for model in pair:
        ids, mask, labels = prompts(model, tokens)
        answers = Answers(ids, labels, mask, model.config.image_token_id)
        assert answers.rows.tolist() == [0, 0, 1]
        with torch.no_grad():
            logits = answer_logits(model.language_model, answers, list(model.get_image_features(pixels())))
        torch.testing.assert_close(logits, whole_models_logits(model))


@pytest.mark.parametrize("groups", [("compressor",), ("compressor", "language_model")])
def test_the_divergence_joins_the_loss(pair, groups):
    teacher, student = pair
    expected = divergences(*(whole_models_logits(model) for model in (student, teacher)), torch.tensor([0, 0, 1]), 2)
    distillation = Distillation(teacher, student, groups, LossWeights(cosine=0, language_model=0.5)).train()
    ids, mask, labels = prompts(student, student.tokens_per_image)
    sizes = torch.tensor([SINGLE_TILE] * 2)
    values = distillation(pixels(), ids, labels, mask, sizes)
    torch.testing.assert_close(values["divergence"].detach(), expected.mean())
    torch.testing.assert_close(values["loss"], values["relative_error"] + 0.5 * values["divergence"])
    values["divergence"].backward()
    assert student.vision_model.compressors.block_2.mlp.linear_2.weight.grad.any()
    trains = "language_model" in groups
    assert (distillation.teacher.language_model is student.language_model) != trains
    assert all((p.grad is not None) == trains for p in student.language_model.parameters())
    assert all(p.grad is None for p in distillation.teacher.language_model.parameters()) == trains or not trains
