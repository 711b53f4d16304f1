"""The log-probabilities of what was said and of what might have been, step by step: numpy, for every text runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TokenLogprob:
    """A token of an answer.

    Attributes:
        token_id, logprob: its own; nats.
        likeliest: the likeliest tokens at its place and their log-probabilities, the best first; tokens that cannot be
            said are none.
    """

    token_id: int
    logprob: float
    likeliest: tuple[tuple[int, float], ...]


class TokenLogprobs:
    """A :class:`~.logits_processors.LogitsProcessor` that records each step's log-probabilities and changes nothing; of
    a batch of one.

    They are of the model's logits behind the penalties and before temperature, top-k, top-p and min-p, so that they say
    how sure the model is whatever is sampled from.

    Args:
        count: how many of the likeliest to record at each step.

    Attributes:
        steps: one a token that was chosen, up to the last :meth:`settle`. Other threads may read it: it only grows.
    """

    def __init__(self, count: int):
        self._count = count
        self._answer: Sequence[int] = ()
        self._logits: np.ndarray | None = None  # of the step whose token is not chosen yet
        self.steps: list[TokenLogprob] = []

    def __call__(self, answers: Sequence[Sequence[int]], logits: np.ndarray) -> np.ndarray:
        self._answer = answers[0]
        self.settle()
        self._logits = logits[0].copy()  # which the next step overwrites
        return logits

    def settle(self) -> None:
        """Note the token that was chosen by the last logits, once it was; in the thread that generates."""
        if self._logits is not None and len(self._answer) > len(self.steps):
            self.steps.append(_logprob(self._logits, self._answer[len(self.steps)], self._count))
            self._logits = None


def _logprob(logits: np.ndarray, token_id: int, count: int) -> TokenLogprob:
    shifted = logits.astype(np.float64) - float(logits.max())
    total = float(np.log(np.exp(shifted).sum()))
    likeliest = np.argpartition(-logits, min(count, len(logits) - 1))[:count]
    likeliest = likeliest[np.argsort(-logits[likeliest], kind="stable")]
    return TokenLogprob(
        token_id,
        float(shifted[token_id]) - total,
        tuple((int(each), float(shifted[each]) - total) for each in likeliest if np.isfinite(shifted[each])),
    )
