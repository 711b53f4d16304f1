"""Stage 0's optimiser: Muon for the blocks' matrices, AdamW for the rest, one cosine for both."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from ..optimizers import MuonWithAdamW
from ..schedule import cosine_factor, warmup_steps
from .recipe import Pretraining

_FLOOR = 0.02  # of the peak learning rate, at the last step
_WARMUP = 0.06
_MAX_GRAD_NORM = 1.0


class PretrainingOptimizer:
    """Optimiser, schedule and clipping of a pretraining.

    Args:
        modules: everything that is trained.
        blocks: the module whose 2-D weights go to Muon.
    """

    def __init__(self, modules: Iterable[nn.Module], blocks: nn.Module, recipe: Pretraining):
        self.parameters = [parameter for module in modules for parameter in module.parameters()]
        matrices = [parameter for parameter in blocks.parameters() if parameter.ndim == 2]
        chosen = {id(parameter) for parameter in matrices}
        groups = [
            {"params": matrices, "lr": recipe.muon_learning_rate, "muon": True},
            {"params": [p for p in self.parameters if id(p) not in chosen], "lr": recipe.learning_rate, "muon": False},
        ]
        self.optimizer = MuonWithAdamW(groups, adjust_lr_fn="original")
        factor = partial(
            cosine_factor, total_steps=recipe.steps, warmup_steps=warmup_steps(recipe.steps, _WARMUP), floor=_FLOOR
        )
        self.scheduler = LambdaLR(self.optimizer, factor)

    @property
    def learning_rates(self) -> list[float]:
        """Of the matrices and of the rest, for the next step."""
        return self.scheduler.get_last_lr()

    def step(self, loss: torch.Tensor) -> None:
        """Backward, clip, step, clear."""
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, _MAX_GRAD_NORM)
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad()


def batches(samples: int, batch_size: int, steps: int, generator: torch.Generator) -> Iterable[torch.Tensor]:
    """Index tensors [batch_size] of ``steps`` batches, reshuffled for each pass over the samples."""
    done = 0
    while done < steps:
        order = torch.randperm(samples, generator=generator)
        for batch in order.split(batch_size):
            if len(batch) == batch_size and done < steps:
                done += 1
                yield batch
