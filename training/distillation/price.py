"""What a merge costs in features: a student's distance from its teacher on pictures that nothing was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .losses import feature_errors, token_cosines

if TYPE_CHECKING:
    from .pair import Distillation


@dataclass(frozen=True)
class FeaturePrice:
    """Means over pictures of one depth's projected features against the teacher's.

    Attributes:
        pictures: how many.
        relative_error: ‖s − t‖² / ‖t‖², the targets pooled where the student has fewer tokens.
        cosine: of each token with its target.
    """

    pictures: int
    relative_error: float
    cosine: float

    def __str__(self) -> str:
        return f"relative error {self.relative_error:.3f}, cosine {self.cosine:.3f}"


@torch.no_grad()
def feature_prices(
    distillation: Distillation,
    batches: Sequence[Tensor],
    context: AbstractContextManager | None = None,
) -> dict[str, FeaturePrice]:
    """The price of each depth that the student carries, by the depth as it was asked for.

    Args:
        batches: ``pixel_values [B, 3, H, W]`` on any device; the teacher runs once for all depths.
        context: of the precision that is computed in.
    """
    vision = distillation.vision_model
    paths = dict(zip(vision.compression.depths, vision.compression.paths, strict=True))
    sums = {depth: torch.zeros(2, dtype=torch.float64) for depth in paths}
    trains, path_now = distillation.training, vision.path
    device = next(distillation.parameters()).device
    distillation.eval()
    try:
        with context or nullcontext():
            for pixels in batches:
                targets = distillation.targets(pixels.to(device))
                for depth, vision.path in paths.items():
                    sums[depth] += _sums(distillation, targets)
    finally:
        vision.path = path_now
        distillation.train(trains)
    pictures = sum(len(pixels) for pixels in batches)
    return {depth: FeaturePrice(pictures, *(values / pictures).tolist()) for depth, values in sums.items()}


def _sums(distillation: Distillation, targets) -> Tensor:
    features, expected = distillation.features(targets.shared), distillation.feature_targets(targets)
    sums = feature_errors(features, expected).sum(), token_cosines(features, expected).sum()
    return torch.stack(sums).double().cpu()


def plain_values(prices: dict[str, FeaturePrice]) -> dict[str, dict]:
    """For JSON."""
    return {depth: asdict(price) for depth, price in prices.items()}
