"""The parts, and the models that compress nothing inside: as LLaVA (all tokens), and as InternVL (a window outside)."""

from __future__ import annotations

import copy

import torch
from ordering.pretraining import read_pages, translate
from ordering.reader import IMAGE, DrawPages, accuracy
from torch import nn

from laco_export.models import LacoForConditionalGeneration

TEACHERS = {"whole": {}, "window": {"projector": {"window": 2, "norm": True}}}
"""Options of ``from_parts``: the language model sees 64 tokens, or 16 of a window of four each."""


def new_model(encoder: nn.Module, decoder: nn.Module, seed: int, **options) -> LacoForConditionalGeneration:
    """Copies of the parts with a fresh projector, and merges where ``options`` say so."""
    torch.manual_seed(seed + 2)
    parts = (copy.deepcopy(part) for part in (encoder, decoder))
    options = {"method": None, **options}
    return LacoForConditionalGeneration.from_parts(*parts, image_token_id=IMAGE, **options).train()


def train_from_parts(
    model: LacoForConditionalGeneration, seed: int, steps: int, draw: DrawPages, measure_every: int
) -> list[dict]:
    """The ordinary recipe: the projector (and a merge) first, a quarter as many steps, then everything.

    Returns:
        the curve: share of symbols read after so many ``steps``.
    """
    translate(model, seed, steps // 4, draw)
    return train_on(model, seed, steps, draw, measure_every)


def train_on(
    model: LacoForConditionalGeneration, seed: int, steps: int, draw: DrawPages, measure_every: int, *, first: int = 0
) -> list[dict]:
    """Everything on labelled pages; ``first`` leaves those of earlier steps out."""
    generator, curve = torch.Generator().manual_seed(seed), []
    for done in read_pages(model, seed, steps, generator, first=first, draw=draw):
        if done % measure_every == 0 or done == steps:
            curve.append({"steps": done, "accuracy": accuracy(model, seed, draw=draw)})
    return curve
