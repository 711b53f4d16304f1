"""From a histogram to the range that eight bits are spread over: one function a method, one line in :data:`METHODS`.

Each gives the magnitude beyond which values are clipped. Clipping is a trade: what lies outside is cut off, what lies
inside gets finer steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .histogram import Histogram

_LEVELS = 127
"""Magnitudes of a symmetric INT8 number."""

PERCENTILE = 99.99
"""Of the magnitudes; NVIDIA's pytorch-quantization and ONNX Runtime use 99.99 to 99.999."""

_CANDIDATES = 64


@dataclass(frozen=True)
class Method:
    """A way to choose a range.

    Attributes:
        threshold: histogram → magnitude.
        minimum: different pictures that it needs: extremes and least squares want a few scenes, so that no single one
            cuts off the others; a tail or a divergence is an estimate.
    """

    threshold: Callable[[Histogram], float]
    minimum: int


def clip_range(histogram: Histogram, method: str) -> tuple[float, float]:
    """The range ``(low, high)`` that is kept, zero included; never wider than what was seen."""
    threshold = METHODS[method].threshold(histogram)
    return max(min(histogram.low, 0.0), -threshold), min(max(histogram.high, 0.0), threshold)


def _maximum(histogram: Histogram) -> float:
    return max(-histogram.low, histogram.high, 0.0)


def _magnitudes(histogram: Histogram) -> np.ndarray:
    """Counts by magnitude, ``[BINS / 2]``: bin i covers ``[i, i + 1) · limit / (BINS / 2)``."""
    half = len(histogram.counts) // 2
    return histogram.counts[half:] + histogram.counts[:half][::-1]


def _percentile(histogram: Histogram) -> float:
    counts = _magnitudes(histogram)
    reached = np.cumsum(counts) >= counts.sum() * (PERCENTILE / 100)
    return min(_maximum(histogram), (int(np.argmax(reached)) + 1) * histogram.limit / len(counts))


def _mean_squared_error(histogram: Histogram) -> float:
    """The threshold with the least Σ count·error² of clipping plus rounding, on a geometric grid down to 1/16."""
    counts, width = _magnitudes(histogram), histogram.limit / (len(histogram.counts) // 2)
    magnitudes = (np.arange(len(counts)) + 0.5) * width
    largest, best, least = _maximum(histogram), 0.0, np.inf
    for threshold in largest * np.geomspace(1, 1 / 16, _CANDIDATES):
        step = threshold / _LEVELS
        rounded = np.minimum(np.rint(magnitudes / step), _LEVELS) * step if step else np.zeros_like(magnitudes)
        # Around its middle a bin's values are spread evenly, which adds width²/12 for any threshold alike.
        error = (counts * (magnitudes - rounded) ** 2).sum()
        if error < least:
            best, least = float(threshold), error
    return best


def _entropy(histogram: Histogram) -> float:
    """TensorRT's: the threshold whose 128-level version diverges least (Kullback-Leibler) from the clipped original.

    Szymon Migacz, "8-bit Inference with TensorRT" (GTC 2017), on 2048 magnitude bins.
    """
    counts = _magnitudes(histogram).reshape(2048, -1).sum(1).astype(np.float64)  # [2048]
    filled = int(np.flatnonzero(counts)[-1]) + 1 if counts.any() else 0
    bins, best, least = _LEVELS + 1, filled, np.inf
    for end in range(bins, filled + 1):
        reference = counts[:end].copy()
        reference[-1] += counts[end:].sum()
        edges = np.linspace(0, end, bins + 1).astype(int)
        level = np.repeat(np.arange(bins), np.diff(edges))  # [end]: the level of each bin
        present = counts[:end] > 0
        sums = np.bincount(level, counts[:end], bins)
        spread = np.bincount(level, present, bins)
        candidate = np.where(present, (sums / np.maximum(spread, 1))[level], 0.0)
        divergence = _divergence(reference, candidate)
        if divergence < least:
            best, least = end, divergence
    return min(_maximum(histogram), best * histogram.limit / 2048)


def _divergence(reference: np.ndarray, candidate: np.ndarray) -> float:
    """KL(reference ‖ candidate) of counts; infinite where the candidate lacks what the reference has."""
    if not reference.sum() or not candidate.sum():
        return np.inf
    p, q = reference / reference.sum(), candidate / candidate.sum()
    if np.any((p > 0) & (q == 0)):
        # The clipped tail lands in a bin that held nothing: a little of every bin there, as TensorRT smooths.
        q = (q + 1e-6) / (q + 1e-6).sum()
    filled = p > 0
    return float((p[filled] * np.log(p[filled] / q[filled])).sum())


METHODS: dict[str, Method] = {
    "max": Method(_maximum, 4),
    "percentile": Method(_percentile, 8),
    "entropy": Method(_entropy, 8),
    "mse": Method(_mean_squared_error, 4),
}

AUTO = "auto"
"""No method of its own: each of :data:`CANDIDATES` is tried on every block, and the better one taken."""

CANDIDATES = ("mse", "max")
"""The finest steps and the widest range. A few tokens of a pretrained encoder hold values that stand far out and that
every later block reads: counted with the others they are cut off at little cost, and that is the dearest mistake. In
other blocks what stands out is of no account, and finer steps are worth more. On pretrained weights ``percentile`` and
``entropy`` were behind both (docs/real-weights.md)."""


def candidates_of(method: str) -> tuple[str, ...]:
    """The names of :data:`METHODS` that ``method`` tries: itself, or those of :data:`AUTO`."""
    return CANDIDATES if method == AUTO else (method,)


def minimum_of(method: str) -> int:
    """Pictures that ``method``, or one of those that it tries, needs."""
    return max(METHODS[name].minimum for name in candidates_of(method))
