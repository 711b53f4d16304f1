"""What logits say of the text that they were computed over."""

from __future__ import annotations

import numpy as np


def negative_log_likelihood(logits: np.ndarray, ids: list[int]) -> float:
    """The sum over positions of -ln p of the next token.

    Args:
        logits: float32 ``[T, V]`` of ``ids``, of which the last position's are not read.
    """
    before = logits[:-1].astype(np.float64)
    largest = before.max(-1)
    normalisers = largest + np.log(np.exp(before - largest[:, None]).sum(-1))
    return float((normalisers - before[np.arange(len(before)), ids[1:]]).sum())
