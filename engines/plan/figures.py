"""A number and how it is known, so that what was measured and what was not are never mixed unnoticed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

MEASURED, RECORDED, PREDICTED, BOUNDED = "measured", "recorded", "predicted", "bounded"
"""Ways of knowing: measured in this run; measured earlier, by this machine's cache or a bundle's own record; computed
from a floor; known only to lie between other figures."""


@dataclass(frozen=True)
class Figure:
    """A number within ``[low, high]``.

    Attributes:
        value: the number; of a bounded one a guess, which orders the search and decides nothing.
        sources: the ways in which its parts are known, see :data:`MEASURED` and its neighbours.
    """

    value: float
    low: float
    high: float
    sources: frozenset[str]

    @classmethod
    def exact(cls, value: float, source: str) -> Figure:
        """A figure without an interval."""
        return cls(value, value, value, frozenset({source}))

    @property
    def is_measured(self) -> bool:
        """Every part of it was measured, now or earlier."""
        return self.sources <= {MEASURED, RECORDED}

    @property
    def is_known(self) -> bool:
        """It is more than a guess between bounds."""
        return BOUNDED not in self.sources

    @property
    def source(self) -> str:
        """``measured``; of a sum of unlike parts ``measured + predicted``."""
        return " + ".join(name for name in (MEASURED, RECORDED, PREDICTED, BOUNDED) if name in self.sources)

    def scaled(self, factor: float) -> Figure:
        """The figure times a positive number."""
        return Figure(self.value * factor, self.low * factor, self.high * factor, self.sources)

    def to_dict(self) -> dict:
        """For ``--json``; an end that is not bounded is null."""
        ends = {name: end if math.isfinite(end) else None for name, end in (("low", self.low), ("high", self.high))}
        return {"value": self.value if self.is_known else None, **ends, "source": self.source}


def total(figures: Iterable[Figure]) -> Figure:
    """The sum of some figures; its ends are the sums of theirs."""
    parts = list(figures)
    ends = ((part.value, part.low, part.high) for part in parts)
    sources = frozenset().union(*(part.sources for part in parts))
    return Figure(*map(sum, zip(*ends, strict=True)), sources)
