"""What a stage would take is counted on shapes alone."""

from functools import cache

import pytest
import torch

from laco_export.models.merging import merge_inside
from laco_training.distillation.pair import Distillation
from laco_training.distillation.plan import estimate_distillation, trained_parameters
from laco_training.memory import ForwardShape, kept_bytes


@pytest.fixture(scope="module")
def build(make_tiny_model):
    def make():
        teacher = make_tiny_model(blocks=4, grid=(8, 8), method=None)
        return teacher, merge_inside(teacher, ["1/2", "1/4"])

    return make


@pytest.fixture(scope="module")
def estimate(build, make_stage):
    """``estimate(pictures=4, **stage options)``, each made once."""

    @cache
    def make(pictures=4, **options):
        stage = make_stage(distillation={"language_model": options.pop("language_model", 0.0)}, **options)
        return estimate_distillation(build, stage, ForwardShape(pictures, 90, pictures, 5))

    return make


def test_weights_count_once_what_both_share(build, estimate):
    """The tower, the merges and the projector, and the teacher's copies of what is trained of these."""
    distillation = Distillation(*build(), ("compressor", "encoder"))
    trained = trained_parameters(distillation)
    own = sum(parameter.numel() for parameter in distillation.parameters())
    assert estimate().weights == 4 * (own + trained["encoder"])
    assert estimate().gradients == 4 * sum(trained.values()) and estimate().optimizer == 2 * estimate().gradients
    assert trained["compressor"] == sum(p.numel() for p in distillation.vision_model.compressors.parameters())


def test_activations_are_those_that_autograd_keeps(build, estimate):
    """As counted on real tensors at the depth that keeps the most: 1/2, where block 2 still sees all tokens."""
    distillation = Distillation(*build(), ("compressor", "encoder")).train()
    distillation.student.set_depth("1/2")
    parameters = [*distillation.parameters(), *distillation.teacher.parameters()]
    counted = kept_bytes(parameters, lambda: distillation(torch.zeros(4, 3, 112, 112)), precision="fp32")
    assert estimate().activations == pytest.approx(counted, rel=0.02)
    assert estimate(gradient_checkpointing=True).activations < 0.7 * counted


def test_the_language_model_counts_where_it_is_compared(build, estimate):
    compared = estimate(language_model=1.0)
    count = sum(parameter.numel() for parameter in build()[0].language_model.parameters())
    assert compared.weights - estimate().weights == 4 * count
    assert compared.activations > estimate().activations
    assert compared.gradients == estimate().gradients
