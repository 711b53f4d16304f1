"""Learning rates over the steps of a stage."""

import pytest
import torch

from laco_training.schedule import cosine_factor, cosine_schedule


def test_a_group_that_joins_in_later_has_its_own_warm_up_and_cosine():
    parameters = [torch.nn.Parameter(torch.zeros(2)) for _ in range(2)]
    groups = [{"params": [parameters[0]], "lr": 1e-2}, {"params": [parameters[1]], "lr": 1e-3, "first_step": 6}]
    optimizer = torch.optim.AdamW(groups)
    schedule = cosine_schedule(optimizer, total_steps=26, warmup_ratio=0.1, min_learning_rate=1e-5)
    rates = []
    for _ in range(26):
        rates.append(schedule.get_last_lr())
        optimizer.step()
        schedule.step()
    first, later = zip(*rates, strict=True)
    assert first == pytest.approx(
        [1e-2 * cosine_factor(s, total_steps=26, warmup_steps=3, floor=1e-3) for s in range(26)]
    )
    assert later[:6] == (0,) * 6
    assert later[6:] == pytest.approx(
        [1e-3 * cosine_factor(step, total_steps=20, warmup_steps=2, floor=1e-2) for step in range(20)]
    )
    assert first[-1] == pytest.approx(1e-5) and later[-1] == pytest.approx(1e-5)
