"""The two phases."""

from types import SimpleNamespace

import pytest

from laco_training.distillation.pair import Distillation
from laco_training.distillation.trainer import MergeFirst


def trained(distillation):
    return {name.split(".")[1] for name, parameter in distillation.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("resumed_at", [0, 2, 3, 7])
def test_what_is_trained_follows_from_the_step_alone(make_pair, resumed_at):
    """A run that is resumed in the second phase has never been in the first."""
    distillation = Distillation(*make_pair(), ("compressor", "encoder"))
    hold = MergeFirst(distillation, 3)
    for step in range(resumed_at, 8):
        hold.on_step_begin(None, SimpleNamespace(global_step=step), None)
        assert trained(distillation) == ({"compressors"} if step < 3 else {"compressors", "encoder"})
    hold.on_train_end(None, None, None)
    assert trained(distillation) == {"compressors", "encoder"}
