"""What an answer lost beside the reference's, in numbers that can be averaged and added.

Each token of the reference's answer is predicted behind the reference's own tokens before it, in one pass: the greedy
answer is the reference's exactly where every token is, and one other choice does not end the comparison.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from laco_export.agreement import agreement
from laco_export.bundle import IMAGE_FEATURES


class Loss(NamedTuple):
    """Of one question, or the mean of several.

    Attributes:
        answer: 1 where the greedy answer is another than the reference's, else 0.
        first_token: 1 where its first token is.
        tokens: share of the reference's tokens that are no longer the best.
        logprob: what the reference's answer lost of log-probability, nats a token.
        squared_error: ``‖features − reference's‖² / ‖reference's‖²`` of what the language model reads of the pictures.
    """

    answer: float = 0.0
    first_token: float = 0.0
    tokens: float = 0.0
    logprob: float = 0.0
    squared_error: float = 0.0

    @property
    def feature_error(self) -> float:
        """The relative error; of a mean its root mean square."""
        return max(0.0, self.squared_error) ** 0.5

    def plus(self, other: Loss, factor: float = 1.0) -> Loss:
        return Loss(*(mine + factor * theirs for mine, theirs in zip(self, other, strict=True)))

    def minus(self, other: Loss) -> Loss:
        return self.plus(other, -1.0)


def mean_loss(losses: Iterable[Loss]) -> Loss:
    """Of at least one."""
    return Loss(*np.mean(list(losses), 0).tolist())


def answer_loss(
    logits: np.ndarray, token_ids: np.ndarray, reference_logprobs: np.ndarray, squared_error: float
) -> Loss:
    """The loss of an answer.

    Args:
        logits: float32 ``[A, V]``, each step's behind the reference's tokens before it. A step of which one is NaN
            counts as a guess among all tokens.
        token_ids: the reference's answer, ``[A]``.
        reference_logprobs: the reference's own, ``[A]``.
        squared_error: of the features.
    """
    is_same = (logits.argmax(-1) == token_ids) & ~np.isnan(logits).any(-1)
    lost = float((reference_logprobs - logprobs_of(logits, token_ids)).mean())
    return Loss(float(not is_same.all()), float(not is_same[0]), float(1 - is_same.mean()), lost, squared_error)


def logprobs_of(logits: np.ndarray, token_ids: np.ndarray) -> np.ndarray:
    """Natural logarithms of the probabilities of tokens ``[A]`` by logits ``[A, V]``, float64 ``[A]``; of a token that
    has none (the vocabulary is without it, or a logit is inf or NaN) a guess among all, ``-log V``."""
    wide = logits.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        shifted = wide - wide.max(-1, keepdims=True)
        normalised = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    logprobs = np.take_along_axis(normalised, np.asarray(token_ids)[:, None], 1)[:, 0]
    return np.where(np.isfinite(logprobs), logprobs, -np.log(logits.shape[-1]))


def squared_error_of(expected: np.ndarray, features: np.ndarray) -> float:
    """Of features ``[tokens, D]``; 1, as though the picture were lost, where they are inf or NaN."""
    error = agreement(IMAGE_FEATURES, expected, features).relative_error
    return error**2 if np.isfinite(error) else 1.0
