"""How far a share of so many answers may lie from what very many would give: 95 % intervals, without chance in them.

::

    share_interval(97, 100)                    # Wilson's score interval of 97 right answers of 100
    paired_interval(gained=1, lost=4, of=100)  # of the change from one model to another on the same questions

Both take the questions as drawn independently: where several ask about one picture, the truth is wider.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_Z = 1.959963984540054
"""The standard normal distribution's 97.5 % quantile."""


@dataclass(frozen=True)
class ScoreInterval:
    """A share, or a difference of two, with the ends of its 95 % interval; all as parts of 1."""

    value: float
    low: float
    high: float


def share_interval(count: int, of: int) -> ScoreInterval:
    """Wilson's score interval (Wilson 1927, J. Am. Stat. Assoc. 22, 209): of few and of all right it is sound too.

    Args:
        count: how many of ``of``, at least one, were right.
    """
    _check(count, of)
    share = count / of
    weight = 1 + _Z**2 / of
    middle = (share + _Z**2 / (2 * of)) / weight
    half = _Z / weight * math.sqrt(share * (1 - share) / of + _Z**2 / (4 * of**2))
    # At 0 and at all of them one end is the share itself, but for rounding.
    low = 0.0 if count == 0 else middle - half
    return ScoreInterval(share, low, 1.0 if count == of else middle + half)


def paired_interval(*, gained: int, lost: int, of: int) -> ScoreInterval:
    """The change of the share of right answers between two models that were asked the same ``of`` questions, by Bonett
    and Price's adjusted Wald interval (2012, J. Educ. Behav. Stat. 37, 479).

    Args:
        gained: questions that the second model alone has right; lost: that the first alone has.
    """
    _check(gained + lost, of)
    up, down = (gained + 1) / (of + 2), (lost + 1) / (of + 2)
    half = _Z * math.sqrt((up + down - (up - down) ** 2) / (of + 2))
    return ScoreInterval((gained - lost) / of, max(-1.0, up - down - half), min(1.0, up - down + half))


def _check(count: int, of: int) -> None:
    if of < 1 or not 0 <= count <= of:
        raise ValueError(f"{count} of {of}")
