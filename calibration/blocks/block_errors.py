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
class FeatureError:
    """How far ``image_features`` are from FP32's: the worst picture's cosine and norm ratio. A measure, no exception.

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


def worst_error(errors: Sequence[FeatureError]) -> FeatureError:
    """The lowest cosine, the norm ratio that is furthest from 1 and the mean agreement; NaN stays NaN."""
    ratios = [error.norm_ratio for error in errors]
    furthest = float("nan") if np.isnan(ratios).any() else max(ratios, key=lambda ratio: abs(ratio - 1))
    agreements = [error.agreement for error in errors if error.agreement is not None]
    mean_agreement = float(np.mean(agreements)) if agreements else None
    return FeatureError(float(np.min([error.cosine for error in errors])), furthest, mean_agreement)


def feature_error(expected: np.ndarray, features: np.ndarray) -> FeatureError:
    """The error of one picture's ``image_features [1, T, D]`` against FP32's."""
    measured = agreement(IMAGE_FEATURES, expected, features)
    return FeatureError(measured.cosine, measured.norm_ratio)


class BlockJudge:
    """Judges swaps on a few pictures by torch's kernels.

    Args:
        runner: over the (smoothed) FP32 graph.
        pictures: ``pixel_values [1, 3, H, W]`` each.
        answer_share: ``answer_share(index of the picture, image_features)``: the share of FP32's answer tokens that
            those features keep, where there is a language model.
        also: ``pixel_values`` of pictures that sets of blocks are judged on too, and no block alone.
    """

    def __init__(
        self,
        runner: SegmentRunner,
        swap: Swap,
        pictures: Sequence[np.ndarray],
        answer_share: Callable[[int, np.ndarray], float] | None = None,
        also: Sequence[np.ndarray] = (),
    ):
        self.runner, self.swap, self.pictures, self.answer_share = runner, swap, pictures, answer_share
        self.also = also
        self._expected: list[np.ndarray] = []

    def each(self, blocks: Sequence[str], advance: Callable[[], None] = lambda: None) -> dict[str, FeatureError]:
        """Every block swapped alone. Picture by picture, so that memory does not grow with their number."""
        errors: dict[str, list[FeatureError]] = {name: [] for name in blocks}
        self._expected = []
        for index, picture in enumerate(self.pictures):
            features, cuts = self.runner.run_with_cuts(picture, blocks)
            expected = features.numpy()
            self._expected.append(expected)
            for name in blocks:
                self.swap.active = (name,)
                swapped = self.runner.run_from(name, cuts.pop(name), self.swap).numpy()
                error = feature_error(expected, swapped)
                if self.answer_share is not None:
                    error = replace(error, agreement=self.answer_share(index, swapped))
                errors[name].append(error)
                advance()
        return {name: worst_error(by_picture) for name, by_picture in errors.items()}

    def together(self, blocks: Collection[str]) -> FeatureError:
        """All of ``blocks`` swapped at once."""
        every = [*self.pictures, *self.also]
        self._expected += [self.runner.run(picture).numpy() for picture in every[len(self._expected) :]]
        self.swap.active = frozenset(blocks)
        return worst_error(
            [
                feature_error(expected, self.runner.run(picture, self.swap).numpy())
                for picture, expected in zip(every, self._expected, strict=True)
            ]
        )
