"""Stage 0's optimisers: Muon for the blocks' matrices, AdamW for the rest, one cosine for both.

`laco_training.optimizers` says what Muon is worth here, and is the same pair for the stages that follow.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from ..schedule import cosine_schedule
from .recipe import Pretraining

_FLOOR = 0.02  # of the peak learning rate, at the last step
_WARMUP = 0.06
_MAX_GRAD_NORM = 1.0


class PretrainingOptimizer:
    """Both optimisers as one.

    Args:
        modules: everything that is trained.
        blocks: the module whose 2-D weights go to Muon.
    """

    def __init__(self, modules: Iterable[nn.Module], blocks: nn.Module, recipe: Pretraining):
        self.parameters = [parameter for module in modules for parameter in module.parameters()]
        matrices = [parameter for parameter in blocks.parameters() if parameter.ndim == 2]
        chosen = {id(parameter) for parameter in matrices}
        others = [parameter for parameter in self.parameters if id(parameter) not in chosen]
        self.optimizers = [
            torch.optim.AdamW(others, lr=recipe.learning_rate, betas=(0.9, 0.99), weight_decay=0.0),
            torch.optim.Muon(matrices, lr=recipe.muon_learning_rate, weight_decay=0.0, momentum=0.95),
        ]
        self.schedulers = [
            cosine_schedule(
                optimizer,
                total_steps=recipe.steps,
                warmup_ratio=_WARMUP,
                min_learning_rate=_FLOOR * optimizer.param_groups[0]["lr"],
            )
            for optimizer in self.optimizers
        ]

    def step(self, loss: torch.Tensor) -> None:
        """Backward, clip, step, clear."""
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, _MAX_GRAD_NORM)
        for optimizer, scheduler in zip(self.optimizers, self.schedulers, strict=True):
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()


def batches(samples: int, batch_size: int, steps: int, generator: torch.Generator) -> Iterable[torch.Tensor]:
    """Index tensors [batch_size] of `steps` batches, reshuffled for each pass over the samples."""
    done = 0
    while done < steps:
        order = torch.randperm(samples, generator=generator)
        for batch in order.split(batch_size):
            if len(batch) == batch_size and done < steps:
                done += 1
                yield batch
