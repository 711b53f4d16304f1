"""A tensor's distribution, streamed: exact extremes and a histogram whose range grows.

The bins cover ``[-R, R]`` with R a power of two. When a larger value comes, R doubles and each pair of bins becomes
one: no count is ever split or guessed. So histograms of parts add up to the histogram of the whole exactly, in any
order, which is what resuming and merging rest on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

BINS = 8192
"""At worst (the largest value just above a power of two) 4096 bins cover the values: 16 to each INT8 level."""

_SMALLEST_EXPONENT = -114
"""Of a tensor of zeros: bins a unit apart are still a float32 factor (2^126) away."""


@dataclass
class Histogram:
    """Counts over ``[-limit, limit]`` in :data:`BINS` equal bins.

    Attributes:
        exponent: ``limit = 2 ** exponent``; None before the first value.
        low, high: the exact extremes.
        channel_max: float32 ``[C]``, the largest magnitude of each channel (the last axis).
    """

    counts: np.ndarray = field(default_factory=lambda: np.zeros(BINS, np.int64))
    exponent: int | None = None
    low: float = math.inf
    high: float = -math.inf
    channel_max: np.ndarray | None = None

    @property
    def limit(self) -> float:
        return 0.0 if self.exponent is None else math.ldexp(1.0, self.exponent)

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    def add(self, values) -> None:
        """Take in a torch tensor ``[…, C]`` of FP32 values.

        Raises:
            ValueError: a value is not finite.
        """
        import torch

        low, high = (float(bound) for bound in torch.aminmax(values))
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError("the tensor holds inf or NaN")
        self._grow_to(_exponent_of(max(-low, high)))
        self.low, self.high = min(self.low, low), max(self.high, high)
        # A bin's number is found without rounding (its width is a power of two), so that a value beside an edge falls
        # into the same bin whatever the range was then. histc alone adds the limit first, which rounds.
        # It counts in FP32, exact below 2^24: a tensor of one picture is far smaller.
        middles = (values * (BINS / 2 / self.limit)).floor_().clamp_(max=BINS // 2 - 1).add_(0.5)
        counts = torch.histc(middles, BINS, -BINS // 2, BINS // 2)
        self.counts += counts.numpy().astype(np.int64)
        largest = values.reshape(-1, values.shape[-1]).abs().amax(0).numpy()  # [C]
        self.channel_max = largest if self.channel_max is None else np.maximum(self.channel_max, largest)

    def merge(self, other: Histogram) -> None:
        """Add the counts of ``other``; exactly what one histogram over both would hold."""
        if other.exponent is None:
            return
        self._grow_to(other.exponent)
        self.counts += _widened(other.counts, self.exponent - other.exponent)
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        largest = other.channel_max
        self.channel_max = largest if self.channel_max is None else np.maximum(self.channel_max, largest)

    def _grow_to(self, exponent: int) -> None:
        if self.exponent is None:
            self.exponent = exponent
        elif exponent > self.exponent:
            self.counts = _widened(self.counts, exponent - self.exponent)
            self.exponent = exponent

    def to_json(self) -> dict:
        """Readable: the counts from the first to the last bin that is not empty."""
        filled = np.flatnonzero(self.counts)
        first, last = (int(filled[0]), int(filled[-1]) + 1) if filled.size else (0, 0)
        return {
            "low": None if self.exponent is None else self.low,
            "high": None if self.exponent is None else self.high,
            "exponent": self.exponent,
            "first_bin": first,
            "counts": self.counts[first:last].tolist(),
            # The shortest decimal that reads back as the same float32.
            "channel_max": None
            if self.channel_max is None
            else [float(str(value)) for value in self.channel_max.astype(np.float32)],
        }

    @classmethod
    def from_json(cls, value: dict) -> Histogram:
        if value["exponent"] is None:
            return cls()
        counts = np.zeros(BINS, np.int64)
        counts[value["first_bin"] : value["first_bin"] + len(value["counts"])] = value["counts"]
        return cls(counts, value["exponent"], value["low"], value["high"], np.asarray(value["channel_max"], np.float32))


def _exponent_of(largest: float) -> int:
    """The least e with 2^e ≥ ``largest``, and no less than :data:`_SMALLEST_EXPONENT`."""
    if largest <= math.ldexp(1.0, _SMALLEST_EXPONENT):
        return _SMALLEST_EXPONENT
    mantissa, exponent = math.frexp(largest)  # largest = mantissa · 2^exponent, mantissa in [0.5, 1)
    return exponent - 1 if mantissa == 0.5 else exponent


def _widened(counts: np.ndarray, doublings: int) -> np.ndarray:
    """The same counts over a range 2^doublings times as wide."""
    for _ in range(doublings):
        if not counts.any():
            break
        pairs = counts.reshape(-1, 2).sum(1)  # [BINS / 2], the middle half of the new range
        counts = np.zeros(BINS, np.int64)
        counts[BINS // 4 : BINS // 4 + BINS // 2] = pairs
    return counts.copy()
