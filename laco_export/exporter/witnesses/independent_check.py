"""Two computations of one tensor: how far they are apart, and the error where that is too far."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np

from ...errors import ExportError

ROUNDING = 1e-5
"""Of the largest magnitude: some hundred roundings of float32 (6e-8 each). What is watched is wrong by far more: one
level of 255 is 4e-3 of a pixel's range, and another token is another value."""


@dataclass(frozen=True)
class IndependentCheck:
    """Two computations that agree.

    Attributes:
        watched: what was computed twice; by: the witness.
        max_abs: the largest difference between the two, and ``largest`` the largest magnitude.
        cases: pictures, or prompts, on which they were compared.
    """

    watched: str
    by: str
    max_abs: float
    largest: float
    cases: int

    def to_dict(self) -> dict:
        """For the manifest."""
        return asdict(self)


def compare_cases(
    watched: str,
    by: str,
    cases: Iterable[tuple[str, np.ndarray, np.ndarray]],
    *,
    rounding: float = ROUNDING,
) -> IndependentCheck:
    """Compare case by case.

    Args:
        cases: name, what this package computed, what the witness computed.
        rounding: what the two may differ by, as a share of the largest magnitude.

    Raises:
        ExportError: in a case they differ by more, or in shape; or there is no case.
    """
    most, largest, count = 0.0, 0.0, 0
    for name, computed, expected in cases:
        if computed.shape != expected.shape:
            raise _disagreement(watched, by, name, f"shape {list(computed.shape)}", f"shape {list(expected.shape)}")
        magnitude = float(np.abs(expected).max(initial=0.0))
        difference = float(np.abs(computed.astype(np.float64) - expected).max(initial=0.0))
        if not difference <= rounding * magnitude:  # said so that NaN is not within it
            raise _disagreement(
                watched,
                by,
                name,
                f"largest difference {difference:.3g} at magnitudes up to {magnitude:.3g}",
                f"{rounding * magnitude:.1g}: rounding",
            )
        most, largest, count = max(most, difference), max(largest, magnitude), count + 1
    if not count:
        raise ExportError(f"{watched} were compared with {by} on nothing", todo="report this")
    return IndependentCheck(watched, by, most, largest, count)


def _disagreement(watched: str, by: str, case: str, computed: str, allowed: str) -> ExportError:
    return ExportError(
        f"{watched} are not those of {by}",
        given=f"{case}: {computed}",
        allowed=allowed,
        todo="this installation does not compute what it should: install it again; if that does not help, report it "
        "with the checkpoint's config.json and preprocessor_config.json",
    )
