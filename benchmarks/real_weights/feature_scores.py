"""What a converted tower's features are worth beside FP32's: cosines, neighbours kept, kinds read by a linear probe.

A picture's vector is the mean of its visual embeddings, less the mean of FP32's training pictures. Neighbours are the
nearest by cosine. The probe is trained on FP32's features and never on a converted tower's: that is what a language
model does that was trained before the conversion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from laco_export.agreement import agreement
from laco_export.bundle import IMAGE_FEATURES

NEIGHBOURS = 5
_PENALTIES = 10.0 ** np.arange(-4, 3)  # of the probe, times the number of pictures


@dataclass(frozen=True)
class FeatureScores:
    """One conversion on held-out pictures, against FP32.

    Attributes:
        worst_token_cosine, mean_cosine: over all tokens of all pictures.
        worst_picture_cosine: over a picture's whole ``image_features``.
        worst_norm_ratio: the picture whose norm is furthest from FP32's.
        points: 100·(1 - cosine) or 100·|norm ratio - 1| on the worst picture, as ``laco-calibrate --max-drop`` counts.
        mean_relative_error: ‖actual - expected‖ / ‖expected‖ of a picture, in the mean.
        neighbours_kept: share of each picture's nearest among the other held-out ones, all in this conversion.
        training_neighbours_kept: the same among FP32's training pictures.
        right_kinds: by the linear probe.
        same_kinds: as FP32's features give by it, right or wrong.
    """

    worst_token_cosine: float
    mean_cosine: float
    worst_picture_cosine: float
    worst_norm_ratio: float
    points: float
    mean_relative_error: float
    neighbours_kept: float
    training_neighbours_kept: float
    right_kinds: int
    same_kinds: int


class FeatureJudge:
    """Scores conversions against FP32.

    Args:
        training: FP32's vector of each training picture, ``[n, D]`` (:func:`picture_vector`).
        training_kinds: what each shows.
        expected: FP32's ``image_features [1, T, D]`` of each held-out picture.
        kinds: what each held-out picture shows.
    """

    def __init__(
        self,
        training: np.ndarray,
        training_kinds: Sequence[str],
        expected: Sequence[np.ndarray],
        kinds: Sequence[str],
    ):
        self._mean = training.mean(0)
        self._training = training - self._mean
        self._expected, self._kinds = list(expected), np.asarray(kinds)
        self._probe = LinearProbe(self._training, training_kinds)
        vectors = self._vectors(self._expected)
        self._fp32_neighbours = nearest(vectors, vectors, apart_from_itself=True)
        self._fp32_training_neighbours = nearest(vectors, self._training)
        self._fp32_kinds = self._probe.kinds(vectors)

    @property
    def fp32_right_kinds(self) -> int:
        """Held-out pictures whose kind the probe reads from FP32's features."""
        return int((self._fp32_kinds == self._kinds).sum())

    def scores(self, actual: Sequence[np.ndarray]) -> FeatureScores:
        """Score the ``image_features [1, T, D]`` of the held-out pictures, in their order."""
        pictures = [agreement(IMAGE_FEATURES, *pair) for pair in zip(self._expected, actual, strict=True)]
        cosines = np.concatenate([token_cosines(*pair) for pair in zip(self._expected, actual)])
        ratios = np.array([picture.norm_ratio for picture in pictures])
        drops = [max(1 - picture.cosine, abs(picture.norm_ratio - 1)) for picture in pictures]
        vectors = self._vectors(actual)
        kinds = self._probe.kinds(vectors)
        return FeatureScores(
            worst_token_cosine=float(cosines.min()),
            mean_cosine=float(cosines.mean()),
            worst_picture_cosine=min(picture.cosine for picture in pictures),
            worst_norm_ratio=float(ratios[np.abs(ratios - 1).argmax()]),
            points=100 * max(drops),
            mean_relative_error=float(np.mean([picture.relative_error for picture in pictures])),
            neighbours_kept=share_kept(self._fp32_neighbours, nearest(vectors, vectors, apart_from_itself=True)),
            training_neighbours_kept=share_kept(self._fp32_training_neighbours, nearest(vectors, self._training)),
            right_kinds=int((kinds == self._kinds).sum()),
            same_kinds=int((kinds == self._fp32_kinds).sum()),
        )

    def _vectors(self, features: Sequence[np.ndarray]) -> np.ndarray:
        return np.stack([picture_vector(each) for each in features]) - self._mean


class LinearProbe:
    """Ridge regression of one-hot kinds; its penalty is the one with the fewest leave-one-out mistakes.

    Args:
        vectors: ``[n, D]``; kinds: of each.
    """

    def __init__(self, vectors: np.ndarray, kinds: Sequence[str]):
        self.names, labels = np.unique(np.asarray(kinds), return_inverse=True)
        self._centre, self._scale = vectors.mean(0), vectors.std(0) + 1e-12
        inputs = self._inputs(vectors)
        wanted = np.eye(len(self.names))[labels]
        self._wanted_mean = wanted.mean(0)
        left, singular, right = np.linalg.svd(inputs, full_matrices=False)  # inputs = left · diag · right
        projected = left.T @ (wanted - self._wanted_mean)
        fewest = None
        for penalty in _PENALTIES * len(inputs):
            shrinkage = singular**2 / (singular**2 + penalty)
            fitted = left @ (shrinkage[:, None] * projected)
            leverage = (left**2) @ shrinkage + 1 / len(inputs)
            left_out = wanted - (wanted - self._wanted_mean - fitted) / (1 - leverage)[:, None]
            mistakes = int((left_out.argmax(1) != labels).sum())
            if fewest is None or mistakes < fewest:
                fewest = mistakes
                self._weights = right.T @ ((singular / (singular**2 + penalty))[:, None] * projected)
        self.mistakes_left_out = fewest

    def kinds(self, vectors: np.ndarray) -> np.ndarray:
        """The likeliest kind of each of ``vectors [n, D]``."""
        return self.names[(self._inputs(vectors) @ self._weights + self._wanted_mean).argmax(1)]

    def _inputs(self, vectors: np.ndarray) -> np.ndarray:
        return ((vectors - self._centre) / self._scale).astype(np.float64)


def picture_vector(features: np.ndarray) -> np.ndarray:
    """The mean token of ``image_features [1, T, D]``: float64 ``[D]``."""
    return features[0].mean(0, dtype=np.float64)


def token_cosines(expected: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """Of each token of ``[1, T, D]``: ``[T]``; NaN where a token is not finite or zero."""
    left, right = expected[0].astype(np.float64), actual[0].astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (left * right).sum(1) / np.sqrt((left**2).sum(1) * (right**2).sum(1))


def nearest(queries: np.ndarray, gallery: np.ndarray, *, apart_from_itself: bool = False) -> np.ndarray:
    """The :data:`NEIGHBOURS` nearest of ``gallery [m, D]`` to each of ``queries [n, D]`` by cosine: indices ``[n, 5]``.

    Args:
        apart_from_itself: query i is the gallery's i-th, which does not count.
    """
    unit = lambda vectors: vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    similarity = unit(queries) @ unit(gallery).T
    if apart_from_itself:
        np.fill_diagonal(similarity, -np.inf)
    return np.argsort(-similarity, axis=1, kind="stable")[:, :NEIGHBOURS]


def share_kept(expected: np.ndarray, actual: np.ndarray) -> float:
    """Of the neighbours ``expected [n, k]``, how many are among ``actual [n, k]``."""
    return float(np.mean([len(set(before) & set(after)) / len(before) for before, after in zip(expected, actual)]))
