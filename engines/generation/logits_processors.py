"""What looks at a step's logits before a token is chosen: numpy, for every text runtime alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from laco_export.errors import NotFiniteError

from .options import GenerationOptions


class LogitsProcessor(Protocol):
    """Called at each step, behind the repetition penalty and before what sampling leaves out.

    Args:
        answers: each row's new tokens so far.
        logits: float32 ``[B, V]``, valid until the next step; not to be written into.

    Returns:
        the logits to go on with: the same array, or another one.
    """

    def __call__(self, answers: Sequence[Sequence[int]], logits: np.ndarray) -> np.ndarray: ...


class BestTwo:
    """Records the two best tokens of each step and changes nothing.

    Attributes:
        steps: ``[(token, logit), (token, logit)]`` per step, the better first; of a batch of one.
    """

    def __init__(self):
        self.steps: list[list[tuple[int, float]]] = []

    def __call__(self, answers: Sequence[Sequence[int]], logits: np.ndarray) -> np.ndarray:
        best = np.argpartition(-logits[0], 1)[:2]
        best = best[np.argsort(-logits[0, best], kind="stable")]
        self.steps.append(list(zip(best.tolist(), logits[0, best].tolist())))
        return logits


class FiniteLogits:
    """Ends an answer whose logits are inf or NaN, which any choice of a token would hide.

    Looks at the first token's logits, which the whole prompt takes part in, and at each :attr:`EVERY`-th token's after
    it. Where the keys or values of a token in between are inf or NaN, so are the logits of all tokens behind it.
    """

    EVERY = 16

    def __init__(self):
        self._tokens = 0

    def __call__(self, answers: Sequence[Sequence[int]], logits: np.ndarray) -> np.ndarray:
        # The largest is NaN where one is, -inf where all are; single tokens may be forbidden by -inf.
        if self._tokens % self.EVERY == 0 and not np.isfinite(logits.max(-1)).all():
            raise logits_not_finite(self._tokens + 1)
        self._tokens += 1
        return logits


def logits_not_finite(token: int) -> NotFiniteError:
    """The error for logits from which no token can be chosen; ``token`` counts from 1."""
    return NotFiniteError(
        "the language model's logits are inf or NaN",
        given=f"at token {token} of the answer",
        todo="laco-engine diff BUNDLE compares its parts with PyTorch; a language model in fp16 may overflow: "
        "export with --llm fp32",
    )


class CountPenalty:
    """Makes tokens less likely that the answer holds already: OpenAI's presence and frequency penalty.

    Args:
        presence: taken off the logit of each of them.
        frequency: taken off it once for each time that it was said.
    """

    def __init__(self, presence: float, frequency: float):
        self._presence, self._frequency = presence, frequency

    def __call__(self, answers: Sequence[Sequence[int]], logits: np.ndarray) -> np.ndarray:
        lowered = logits.copy()
        for row, answer in zip(lowered, answers, strict=True):
            said, times = np.unique(np.asarray(answer, np.int64), return_counts=True)
            row[said] -= (self._presence + self._frequency * times).astype(np.float32)
        return lowered


def count_penalties(options: GenerationOptions) -> list[CountPenalty]:
    """The presence and frequency penalties that the options ask for."""
    if not options.presence_penalty and not options.frequency_penalty:
        return []
    return [CountPenalty(options.presence_penalty, options.frequency_penalty)]


class ForcedAnswer:
    """Has a given answer generated, whatever the logits say, and records what they say: each step is judged after the
    right tokens, so that one other choice does not spoil the rest. Of a batch of one.

    Args:
        token_ids: int64 ``[A]``, the answer.
        logit_ids: int64 ``[A, N]``, whose logits are recorded.

    Attributes:
        chosen: the best token of each step.
        logits: float32 ``[N]`` of each step.
    """

    def __init__(self, token_ids: np.ndarray, logit_ids: np.ndarray):
        self._token_ids, self._logit_ids = token_ids, logit_ids
        self.chosen: list[int] = []
        self.logits: list[np.ndarray] = []

    def __call__(self, answers: Sequence[Sequence[int]], logits: np.ndarray) -> np.ndarray:
        step = len(self.chosen)
        self.chosen.append(int(logits[0].argmax()))
        self.logits.append(logits[0, self._logit_ids[step]])
        forced = np.full_like(logits, -np.inf)
        forced[0, int(self._token_ids[step])] = 0.0
        return forced
