"""How the page spells numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

_MINUS = "\u2212"


def percent(share: float) -> str:
    """``97.3 %`` of a part of 1."""
    return f"{100 * share:.1f} %"


def signed_points(points: float) -> str:
    """``+0.3``, ``−1.2``, ``0.0``."""
    spelled = f"{points:+.1f}".replace("-", _MINUS)
    return "0.0" if float(f"{points:.1f}") == 0 else spelled


def milliseconds(value: float) -> str:
    """``1,234 ms``, ``12.3 ms``, ``0.04 ms``."""
    if value >= 100:
        return f"{value:,.0f} ms"
    return f"{value:.1f} ms" if value >= 1 else f"{value:.2g} ms"


def byte_size(count: int) -> str:
    """``2.31 GB``, ``480 MB``, ``12.3 MB``, ``640 kB``: a thousand to the step."""
    for unit, step in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= step:
            return f"{count / step:.3g} {unit}" if count < 999.5 * step else f"{count / step:,.0f} {unit}"
    return f"{count} bytes"


def whole(count: int) -> str:
    """``1,234``."""
    return f"{count:,}"


def ratio(value: float) -> str:
    """``2.31 ×``."""
    return f"{value:.2f} ×"


def rate(value: float) -> str:
    """``12.3``, ``312``."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def billions(value: float) -> str:
    """``123`` of 123e9, ``10.8`` of 10.8e9."""
    return rate(value / 1e9)


def small(value: float) -> str:
    """Three digits: ``0.0123``, ``3.2e-06``."""
    return f"{value:.3g}"


SPELLINGS: Mapping[str, Callable] = {
    spell.__name__: spell
    for spell in (percent, signed_points, milliseconds, byte_size, whole, ratio, rate, billions, small)
}
"""By the names that the template calls them by."""
