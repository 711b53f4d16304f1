"""Losses by their definitions, written out in NumPy."""

import numpy as np
import pytest
import torch

from laco_training.distillation.losses import divergences, feature_errors, token_cosines


@pytest.fixture
def features():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, 5, 7, generator=generator).double().numpy()  # student and teacher, [B, T, D]


def test_the_relative_error_is_that_of_a_whole_picture(features):
    """Large tokens weigh more than small ones, which a mean over the tokens' own errors would not show."""
    student, teacher = features
    teacher[:, 0] *= 10
    expected = [np.sum((s - t) ** 2) / np.sum(t**2) for s, t in zip(student, teacher)]
    errors = feature_errors(torch.tensor(student), torch.tensor(teacher))
    assert errors.dtype == torch.float32
    np.testing.assert_allclose(errors, expected, rtol=1e-6)


def test_the_cosine_is_the_mean_over_a_pictures_tokens(features):
    student, teacher = features
    each = np.sum(student * teacher, -1) / (np.linalg.norm(student, axis=-1) * np.linalg.norm(teacher, axis=-1))
    np.testing.assert_allclose(token_cosines(torch.tensor(student), torch.tensor(teacher)), each.mean(1), rtol=1e-5)


def test_equal_features_cost_nothing_in_bfloat16():
    features = torch.randn(2, 4, 8).bfloat16()
    assert feature_errors(features, features).tolist() == [0, 0]
    assert token_cosines(features, features).tolist() == pytest.approx([1, 1], abs=1e-6)


def test_the_divergence_is_from_the_teachers_distribution_and_a_mean_of_each_sample():
    student, teacher = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(1)).double().numpy()
    p, q = (np.exp(x) / np.exp(x).sum(-1, keepdims=True) for x in (teacher, student))
    each = np.sum(p * np.log(p / q), -1)
    rows = torch.tensor([0, 0, 0, 1])
    values = divergences(torch.tensor(student), torch.tensor(teacher), rows, 2)
    np.testing.assert_allclose(values, [each[:3].mean(), each[3]], rtol=1e-5)
