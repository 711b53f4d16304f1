"""A projector that begins with the words of the captions, solved for and not trained.

A fresh projector gives embeddings that mean nothing to the language model, and a small batch spends hundreds of steps
on their size and on the form of the answers before it learns to look. But what the tokens of a picture should be near
to is known beforehand: the embeddings of the words that describe it. So the projector's last layer is the ridge
regression of those on what its first layer makes of the encoder's features, over all tokens of some hundreds of
pictures. (Mapping pictures into a space of words by least squares: Frome et al., "DeViSE", 2013; into a frozen language
model's input: Merullo et al., "Linearly Mapping from Image to Text Space", 2023.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from math import log
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from laco_export.errors import ConfigError
from laco_export.models.initialization import scale_projector

from .data.samples import IGNORED

if TYPE_CHECKING:
    from laco_export.models import LacoForConditionalGeneration

    from .data import ConversationDataset
    from .data.broken import BrokenSample

SAMPLES = 512
"""Of the data, evenly spread: with 64 tokens each some 30,000 rows for the hundreds of columns of a first layer."""
_RIDGE = 1e-2  # of the mean variance of the first layer's outputs
_BATCH = 16


def start_at_text_rms(model: LacoForConditionalGeneration) -> str:
    """Scale the projector (:func:`~laco_export.models.initialization.scale_projector`); returns what was done."""
    before, after = scale_projector(model)
    return f"text embeddings have a root mean square of {after:.3g}: the projector's {before:.3g} is scaled to it"


@torch.no_grad()
def start_from_captions(
    model: LacoForConditionalGeneration,
    dataset: ConversationDataset,
    *,
    samples: int = SAMPLES,
    advance: Callable[[int], None] = lambda done: None,
) -> float:
    """Set ``model.projector.linear_2`` so that a picture's tokens come near the words of its answer.

    A picture's target is the mean of its answer's token embeddings, each weighted by the logarithm of how rare the
    token is among the answers (its inverse document frequency): articles and marks, which all answers have, weigh
    nothing. Of an elastic model all depths count.

    Args:
        dataset: the first stage's; samples with one picture are used.
        advance: called with each number of samples that are done.

    Returns:
        the share of the targets' variance that the projector explains, 0 to 1.

    Raises:
        ConfigError: fewer than two samples have a picture and words of their own.
    """
    broken: list[BrokenSample] = []
    chosen = _samples_with_words(dataset, samples, broken)
    table = model.get_input_embeddings().weight
    weights = _rarity([words for _, words in chosen])
    targets, tiles = [], []
    for pixels, words in chosen:
        shares = torch.tensor([weights[word] for word in words], dtype=torch.float64)
        if shares.sum() > 0:
            targets.append((shares[:, None] * table[words].double().cpu()).sum(0) / shares.sum())
            tiles.append(pixels)
    if len(targets) < 2:
        raise ConfigError(
            "projector_start: captions needs samples with a picture and words that others do not have",
            given=f"{len(targets)} such samples among {len(chosen)}"
            + (f"; {len(broken)} cannot be used, such as {broken[0].id}: {broken[0].reason}" if broken else ""),
            todo="give the first stage data with captions, or set model.projector_start: text_rms",
        )
    sums = _Regression()
    vision, paths = model.vision_model, model.vision_model.compression.paths or (None,)
    chosen_path = vision.path
    for start in range(0, len(tiles), _BATCH):
        batch = tiles[start : start + _BATCH]
        pixels = torch.cat(batch).to(device=table.device)
        each = torch.tensor([len(sample) for sample in batch])
        wanted = torch.stack(targets[start : start + _BATCH]).repeat_interleave(each, dim=0)  # [tiles, D]
        for path in paths:
            vision.path = path
            features = vision(pixels.to(model.projector.linear_1.weight.dtype))
            sums.add(model.projector.hidden(features, vision.merged_grid), wanted)
        advance(len(batch))
    vision.path = chosen_path
    weight, bias, explained = sums.solve()
    model.projector.linear_2.weight.copy_(weight)
    model.projector.linear_2.bias.copy_(bias)
    return explained


def _samples_with_words(
    dataset: ConversationDataset, samples: int, broken: list[BrokenSample]
) -> list[tuple[Tensor, list[int]]]:
    """``pixel_values [tiles, 3, H, W]`` and the answer's tokens of the samples that show one picture; the others are
    added to ``broken``."""
    places = torch.linspace(0, len(dataset) - 1, min(samples, len(dataset))).long().unique().tolist()
    chosen = []
    for place in places:
        sample = dataset[place]
        broken += sample["notes"].broken
        if sample["notes"].complete and len(sample.get("image_sizes", ())) == 1:
            chosen.append((sample["pixel_values"], sample["labels"][sample["labels"] != IGNORED].tolist()))
    return chosen


def _rarity(answers: list[list[int]]) -> dict[int, float]:
    """Each token's inverse document frequency."""
    counts = Counter(word for answer in answers for word in set(answer))
    return {word: log(len(answers) / count) for word, count in counts.items()}


class _Regression:
    """Ridge regression of rows that come in batches, in float64 on the CPU."""

    def __init__(self) -> None:
        self.rows = 0
        self.x = self.y = self.xx = self.xy = self.yy = 0.0

    def add(self, inputs: Tensor, wanted: Tensor) -> None:
        """``inputs [tiles, T, H]`` and what each tile's tokens should give, ``[tiles, D]``."""
        tokens = inputs.shape[1]
        x, y = inputs.double().cpu(), wanted.double().cpu()
        self.rows += len(x) * tokens
        self.x = self.x + x.sum((0, 1))
        self.xx = self.xx + x.flatten(0, 1).T @ x.flatten(0, 1)
        self.xy = self.xy + x.sum(1).T @ y
        self.y = self.y + tokens * y.sum(0)
        self.yy = self.yy + tokens * y.pow(2).sum().item()

    def solve(self) -> tuple[Tensor, Tensor, float]:
        """Weight ``[D, H]``, bias ``[D]``, and the share of the variance that they explain."""
        x, y = self.x / self.rows, self.y / self.rows
        covariance = self.xx / self.rows - torch.outer(x, x)
        shared = self.xy / self.rows - torch.outer(x, y)
        ridge = _RIDGE * covariance.diagonal().mean() * torch.eye(len(x), dtype=x.dtype)
        weight = torch.linalg.solve(covariance + ridge, shared)  # [H, D]
        variance = self.yy / self.rows - y.pow(2).sum().item()
        left = variance - 2 * (weight * shared).sum().item() + (weight * (covariance @ weight)).sum().item()
        return weight.T, y - x @ weight, 1 - left / variance
