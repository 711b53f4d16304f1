"""Logits beside PyTorch's, step by step of an answer. numpy alone.

Each step is compared after the same tokens, PyTorch's answer, so that one other choice does not end the comparison. Two
things are asked of a step. Its logits may be off by what the precision of the parts that made them costs: a relative
error ``e``, the standard deviation of the difference over that of PyTorch's logits, both over the vocabulary (a common
offset changes no probability). And its best token is PyTorch's, unless PyTorch itself was undecided: the difference of
two logits, each off by ``e`` deviations, is off by ``√2·e`` in the mean, so that a lead of at most ``2·e`` deviations
may be lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from laco_export.golden_answers import BEST_LOGITS, GoldenAnswer

from .part_check import PartCheck

DECODER_ERROR = {"fp32": 0.02, "fp16": 0.05, "int8": 0.2, "int4": 0.2}
"""What logits may be off by where the decoder alone is judged, by its precision. Floats: what the export's comparison
allows, cosine 0.9999 and 0.999. Integers are compared with PyTorch at float activations, and ONNX Runtime's CPU
provider rounds those to eight bits besides: 4 to 8 % was measured of SmolLM2-135M, and another decoder's logits are off
by 100 % and more."""


@dataclass(frozen=True)
class LogitsCheck:
    """The steps of one answer.

    Attributes:
        error: of the worst step; NaN where a logit is none.
        allowed: for it.
        tokens: steps compared; same: with PyTorch's best token.
        undecided: with another, where PyTorch's lead is within what may be lost.
        first_wrong: ``(step, PyTorch's token, its lead in deviations, the token chosen)``.
    """

    error: float
    allowed: float
    tokens: int
    same: int
    undecided: int
    first_wrong: tuple[int, int, float, int] | None

    @property
    def passed(self) -> bool:
        return self.tokens > 0 and self.error <= self.allowed and self.first_wrong is None

    def as_part(self, part: str) -> PartCheck:
        """The verdict under a name."""
        words = f"{self.same} of {self.tokens} tokens as PyTorch's"
        if self.undecided:
            words += f", {self.undecided} where it is undecided"
        if self.first_wrong is not None:
            step, token, lead, chosen = self.first_wrong
            words += f", token {step + 1} is {chosen} for {token}, which leads by {lead:.2f} deviations"
        words += f"; logits off by {self.error:.2%} (≤ {self.allowed:.2%})"
        numbers = {
            "error": self.error if np.isfinite(self.error) else None,
            "allowed": self.allowed,
            "tokens": self.tokens,
            "same": self.same,
            "undecided": self.undecided,
        }
        return PartCheck(part, self.passed, words, numbers)


def check_logits(
    answer: GoldenAnswer, logits: np.ndarray, chosen: Sequence[int], allowed: float, *, steps: slice = slice(None)
) -> LogitsCheck:
    """Compare the steps of an answer.

    Args:
        logits: float32 ``[A, N]`` of ``answer.logit_ids``; chosen: the best token of each step, ``[A]``.
        allowed: relative error.
        steps: of the answer, those that ``logits`` and ``chosen`` are of.
    """
    expected, best = answer.logits[steps], answer.best[steps]
    leads = answer.margins[steps] / np.maximum(answer.deviations[steps], np.finfo(np.float32).tiny)
    differs = np.asarray(chosen) != best
    wrong = np.flatnonzero(differs & ~(leads <= 2 * allowed))
    first = None
    if len(wrong):
        step = int(wrong[0])
        first = (step + (steps.start or 0), int(best[step]), float(leads[step]), int(chosen[step]))
    return LogitsCheck(
        error=float(relative_errors(expected, np.asarray(logits)).max()),
        allowed=allowed,
        tokens=len(best),
        same=int((~differs).sum()),
        undecided=int(differs.sum()) - len(wrong),
        first_wrong=first,
    )


def relative_errors(expected: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """Of each step, float64 ``[A]``; NaN where a logit is inf or NaN."""
    spread = expected[:, BEST_LOGITS:].astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        difference = actual[:, BEST_LOGITS:] - spread
        errors = difference.std(1) / spread.std(1)
    errors = np.where(difference.any(1), errors, 0.0)  # logits that are all the same have no deviation
    return np.where(np.isfinite(actual).all(1), errors, np.nan)
