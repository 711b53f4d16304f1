"""What each block costs in accuracy: swapped alone, judged at the projector; and any set of blocks together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from laco_export.agreement import agreement
from laco_export.exporter.tower import OUTPUT

from .segments import SegmentRunner
from .swapping import Swap


@dataclass(frozen=True)
class Error:
    """How far ``image_features`` are from FP32's: the worst picture's cosine and norm ratio."""

    cosine: float
    norm_ratio: float

    @property
    def points(self) -> float:
        """The larger of 1 - cosine and |norm ratio - 1|, in hundredths; inf where something is not finite."""
        drop = max(1 - self.cosine, abs(self.norm_ratio - 1))
        return 100 * drop if np.isfinite(drop) else float("inf")


def worst_of(errors: Sequence[Error]) -> Error:
    """The lowest cosine and the norm ratio that is furthest from 1; NaN stays NaN."""
    ratios = [one.norm_ratio for one in errors]
    furthest = float("nan") if np.isnan(ratios).any() else max(ratios, key=lambda ratio: abs(ratio - 1))
    return Error(float(np.min([one.cosine for one in errors])), furthest)


def compare_features(expected: np.ndarray, given: np.ndarray) -> Error:
    """The error of one picture's ``image_features``."""
    found = agreement(OUTPUT, expected, given)
    return Error(found.cosine, found.norm_ratio)


class BlockJudge:
    """Judges swaps on a few pictures by torch's kernels.

    Args:
        runner: over the (smoothed) FP32 graph.
        pictures: ``pixel_values [1, 3, H, W]`` each.
    """

    def __init__(self, runner: SegmentRunner, swap: Swap, pictures: Sequence[np.ndarray]):
        self.runner, self.swap, self.pictures = runner, swap, pictures
        self._expected: list[np.ndarray] = []

    def each(self, blocks: Sequence[str], advance: Callable[[], None] = lambda: None) -> dict[str, Error]:
        """Every block swapped alone. Picture by picture, so that memory does not grow with their number."""
        found: dict[str, list[Error]] = {name: [] for name in blocks}
        self._expected = []
        for picture in self.pictures:
            features, cuts = self.runner.run_with_cuts(picture, blocks)
            expected = features.numpy()
            self._expected.append(expected)
            for name in blocks:
                self.swap.active = (name,)
                given = self.runner.run_from(name, cuts.pop(name), self.swap)
                found[name].append(compare_features(expected, given.numpy()))
                advance()
        return {name: worst_of(errors) for name, errors in found.items()}

    def together(self, blocks: Collection[str]) -> Error:
        """All of ``blocks`` swapped at once."""
        if not self._expected:
            self._expected = [self.runner.run(picture).numpy() for picture in self.pictures]
        self.swap.active = frozenset(blocks)
        return worst_of(
            [
                compare_features(expected, self.runner.run(picture, self.swap).numpy())
                for picture, expected in zip(self.pictures, self._expected)
            ]
        )
