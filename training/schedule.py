"""Warm-up and cosine decay with one absolute floor for all groups.

transformers' ``cosine_with_min_lr`` scales every group by one ratio, taken from one base rate: a group that peaks at a
fifth of the base would end at a fifth of the floor. Here each group has a factor of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import ceil, cos, pi
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LambdaLR


def cosine_factor(step: int, *, total_steps: int, warmup_steps: int, floor: float) -> float:
    """The learning rate as a share of its peak: 0 → 1 in the warm-up, then a half cosine down to ``floor``."""
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    progress = min(1.0, (step - warmup_steps) / max(1, total_steps - 1 - warmup_steps))
    return floor + (1 - floor) * 0.5 * (1 + cos(pi * progress))


def warmup_steps(total_steps: int, ratio: float) -> int:
    """Steps of the warm-up, rounded up as transformers does."""
    return ceil(total_steps * ratio)


def cosine_schedule(
    optimizer: Optimizer, *, total_steps: int, warmup_ratio: float, min_learning_rate: float
) -> LambdaLR:
    """A ``LambdaLR`` whose last step has every group at ``min_learning_rate``.

    A group with a ``first_step`` rests until then: its warm-up and its cosine take what is left.
    """
    from torch.optim.lr_scheduler import LambdaLR

    factors: list[Callable[[int], float]] = []
    for group in optimizer.param_groups:
        first = group.get("first_step", 0)
        factor = partial(
            cosine_factor,
            total_steps=total_steps - first,
            warmup_steps=warmup_steps(total_steps - first, warmup_ratio),
            floor=min(1.0, min_learning_rate / group["lr"]),
        )
        factors.append(partial(_from_step, first, factor))
    return LambdaLR(optimizer, factors)


def _from_step(first: int, factor: Callable[[int], float], step: int) -> float:
    return 0.0 if step < first else factor(step - first)
