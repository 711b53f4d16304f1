"""What each block costs in accuracy: swapped alone, judged at the projector; and any set of blocks together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from laco_export.agreement import agreement
from laco_export.bundle import IMAGE_FEATURES

from ..graph.partial_runner import SegmentRunner
from .fake_quant import Swap


@dataclass(frozen=True)
class Error:
    """How far ``image_features`` are from FP32's: the worst picture's cosine and norm ratio.

    Attributes:
        agreement: the share of FP32's answer tokens that the language model still chooses, over all pictures; None
            where there is no language model.
    """

    cosine: float
    norm_ratio: float
    agreement: float | None = None

    @property
    def points(self) -> float:
        """The larger of 1 - cosine and |norm ratio - 1|, in hundredths; inf where something is not finite."""
        drop = max(1 - self.cosine, abs(self.norm_ratio - 1))
        return 100 * drop if np.isfinite(drop) else float("inf")


def worst_of(errors: Sequence[Error]) -> Error:
    """The lowest cosine, the norm ratio that is furthest from 1 and the mean agreement; NaN stays NaN."""
    ratios = [one.norm_ratio for one in errors]
    furthest = float("nan") if np.isnan(ratios).any() else max(ratios, key=lambda ratio: abs(ratio - 1))
    agreements = [one.agreement for one in errors if one.agreement is not None]
    agreement = float(np.mean(agreements)) if agreements else None
    return Error(float(np.min([one.cosine for one in errors])), furthest, agreement)


def compare_features(expected: np.ndarray, given: np.ndarray) -> Error:
    """The error of one picture's ``image_features``."""
    found = agreement(IMAGE_FEATURES, expected, given)
    return Error(found.cosine, found.norm_ratio)


class BlockJudge:
    """Judges swaps on a few pictures by torch's kernels.

    Args:
        runner: over the (smoothed) FP32 graph.
        pictures: ``pixel_values [1, 3, H, W]`` each.
        agreement: ``agreement(index of the picture, image_features) -> share``, where there is a language model.
    """

    def __init__(
        self,
        runner: SegmentRunner,
        swap: Swap,
        pictures: Sequence[np.ndarray],
        agreement: Callable[[int, np.ndarray], float] | None = None,
    ):
        self.runner, self.swap, self.pictures, self.agreement = runner, swap, pictures, agreement
        self._expected: list[np.ndarray] = []

    def each(self, blocks: Sequence[str], advance: Callable[[], None] = lambda: None) -> dict[str, Error]:
        """Every block swapped alone. Picture by picture, so that memory does not grow with their number."""
        found: dict[str, list[Error]] = {name: [] for name in blocks}
        self._expected = []
        for index, picture in enumerate(self.pictures):
            features, cuts = self.runner.run_with_cuts(picture, blocks)
            expected = features.numpy()
            self._expected.append(expected)
            for name in blocks:
                self.swap.active = (name,)
                given = self.runner.run_from(name, cuts.pop(name), self.swap).numpy()
                error = compare_features(expected, given)
                if self.agreement is not None:
                    error = replace(error, agreement=self.agreement(index, given))
                found[name].append(error)
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
