"""The choice of the next token, in numpy: what transformers' logits warpers leave to choose from, and one of it.

The order is transformers': repetition penalty (before other logits processors), temperature, top-k, top-p, min-p,
typical-p. The random numbers are numpy's, so a seed repeats an answer, but not the one that PyTorch's would give.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .logits_processors import logits_not_finite
from .options import GenerationOptions

_LIKELIEST = 1024
"""Looked at first where top-p chooses from the whole vocabulary: sorting 150,000 logits takes ten times as long as
finding so many of the largest, which nearly always hold the probability that is asked for."""


@dataclass(frozen=True)
class SamplingParameters:
    """How a token is chosen; the defaults are transformers' own.

    Attributes:
        temperature: 0 takes the best token.
        typical_p: as transformers' ``typical_p``, which a checkpoint may ask for.
    """

    temperature: float = 0.0
    top_k: int = 50
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0

    @classmethod
    def merged(cls, options: GenerationOptions, checkpoint: Mapping[str, object]) -> SamplingParameters:
        """The options, and where they leave one open the checkpoint's ``generation_config.json``.

        The temperature is always the options' own: greedy unless one is given.
        """
        merged: dict = {"temperature": float(options.temperature)}
        for name in ("top_k", "top_p", "min_p", "typical_p", "repetition_penalty"):
            value = getattr(options, name, None)
            value = checkpoint.get(name) if value is None else value
            if value is not None:
                merged[name] = value
        return cls(**merged)


class TokenChooser:
    """Chooses one row's tokens.

    Args:
        prompt: int64 ``[T]``, its prompt, which a repetition penalty counts.
        vocab_size: logits of a step.
        seed: of the sampling; of no use where nothing is sampled.
    """

    def __init__(self, parameters: SamplingParameters, prompt: np.ndarray, vocab_size: int, seed: int | None):
        self._parameters = parameters
        self._random = np.random.default_rng(seed) if parameters.temperature > 0 else None
        self._chosen = 0
        self._seen: np.ndarray | None = None
        if parameters.repetition_penalty != 1:
            self._seen = np.zeros(vocab_size, bool)
            self._seen[prompt] = True

    def penalise(self, logits: np.ndarray) -> None:
        """Apply the repetition penalty to float32 ``[V]`` in place."""
        if self._seen is None:
            return
        seen = np.flatnonzero(self._seen)
        held, penalty = logits[seen], self._parameters.repetition_penalty
        logits[seen] = np.where(held < 0, held * penalty, held / penalty)

    def choose(self, logits: np.ndarray) -> int:
        """The next token, of float32 ``[V]``.

        Raises:
            NotFiniteError: it is sampled, and the logits are inf or NaN.
        """
        self._chosen += 1
        if self._random is None:
            token = int(logits.argmax())
        else:
            if not np.isfinite(logits.max()):
                raise logits_not_finite(self._chosen)
            tokens, probabilities = distribution(logits, self._parameters)
            point = self._random.random() * probabilities.sum()
            place = int(np.searchsorted(np.cumsum(probabilities), point, side="right"))
            if place == len(tokens):  # by the rounding of the sums: the last that can be said
                place = int(np.flatnonzero(probabilities)[-1])
            token = int(tokens[place])
        if self._seen is not None:
            self._seen[token] = True
        return token


def distribution(logits: np.ndarray, parameters: SamplingParameters) -> tuple[np.ndarray, np.ndarray]:
    """What is sampled from.

    Args:
        logits: float32 ``[V]``, not all -inf.

    Returns:
        tokens, int64 ``[N]``, and their probabilities, float64 ``[N]`` with the sum 1.
    """
    scaled = logits / np.float32(parameters.temperature)
    tokens = _top_k(scaled, parameters.top_k)
    probabilities = _softmax(scaled if tokens is None else scaled[tokens])
    if tokens is None:
        tokens = np.arange(len(scaled))
    for threshold, keep in (
        (parameters.top_p < 1, lambda p: _top_p(p, parameters.top_p)),
        (parameters.min_p > 0, lambda p: p >= parameters.min_p * p.max()),
        (parameters.typical_p < 1, lambda p: _typical(p, parameters.typical_p)),
    ):
        if threshold:
            kept_places = keep(probabilities)
            tokens, probabilities = tokens[kept_places], probabilities[kept_places]
            probabilities = probabilities / probabilities.sum()
    return tokens, probabilities


def _top_k(scaled: np.ndarray, count: int) -> np.ndarray | None:
    """The tokens with the ``count`` largest logits, and those level with the last of them; None for all."""
    if not 0 < count < len(scaled):
        return None
    least = np.partition(scaled, len(scaled) - count)[len(scaled) - count]
    return np.flatnonzero(scaled >= least)


def _top_p(probabilities: np.ndarray, share: float) -> np.ndarray:
    """The places of the likeliest tokens that reach ``share``: each before which less than that has come."""
    order = None
    if len(probabilities) > _LIKELIEST:
        largest = np.argpartition(probabilities, -_LIKELIEST)[-_LIKELIEST:]
        if probabilities[largest].sum() >= share:
            order = largest[np.argsort(-probabilities[largest], kind="stable")]
    if order is None:
        order = np.argsort(-probabilities, kind="stable")
    before = np.cumsum(probabilities[order]) - probabilities[order]
    return order[before < share]


def _typical(probabilities: np.ndarray, mass: float) -> np.ndarray:
    """The places of the tokens whose surprise is nearest to the expected one, that together reach ``mass``."""
    with np.errstate(divide="ignore"):
        surprise = -np.log(probabilities)
    possible = probabilities > 0
    distance = np.abs(surprise - probabilities[possible] @ surprise[possible])
    order = np.argsort(distance, kind="stable")
    reached = int((np.cumsum(probabilities[order]) < mass).sum())
    return np.flatnonzero(distance <= distance[order[min(reached, len(order) - 1)]])


def _softmax(scaled: np.ndarray) -> np.ndarray:
    weights = np.exp(scaled.astype(np.float64) - float(scaled.max()))
    return weights / weights.sum()
