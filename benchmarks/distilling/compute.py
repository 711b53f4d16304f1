"""Operations of training steps, forward and backward, as PyTorch's counter sees them: matrix products alone."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from ordering.pretraining import loss_in_words, translate
from ordering.reader import BATCH, DrawPages, answer, batch_of
from torch.utils.flop_counter import FlopCounterMode

from laco_export.models import LacoForConditionalGeneration
from laco_training.distillation.pair import Distillation


def operations(run: Callable[[], object]) -> int:
    """Of what ``run`` does once."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def recipe_operations(model: LacoForConditionalGeneration, steps: int, draw: DrawPages) -> int:
    """The ordinary recipe (:func:`.models.train_from_parts`) of ``steps`` reading steps from the same parts."""
    spare = copy.deepcopy(model)
    translating = operations(lambda: translate(spare, 0, 1, draw))
    return steps // 4 * translating + steps * reading_operations(model, draw)


def reading_operations(model: LacoForConditionalGeneration, draw: DrawPages) -> int:
    """A step on labelled pages, with the words beside them."""
    spare = copy.deepcopy(model)
    pixels, letters = draw(BATCH, 0)

    def step() -> None:
        loss = answer(spare, batch_of(pixels, letters, spare.tokens_per_image)).loss
        words = loss_in_words(spare.language_model, letters, letters.shape[1], torch.Generator().manual_seed(0))
        (loss + words).backward()

    return operations(step)


def healing_operations(distillation: Distillation, draw: DrawPages) -> int:
    """A step of the distillation on pages without labels, the teacher's pass included."""
    pixels, _ = draw(BATCH, 0)
    counted = operations(lambda: distillation(pixels)["loss"].backward())
    distillation.zero_grad()
    return counted
