"""How far two tensors agree: what the exporter gates on, and what a device checks itself with. numpy alone.

Cosine is blind to a lost scale and the norm ratio is blind to direction, so both are held to a tolerance; the largest
single difference shows one wrong token beside many right ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from .errors import LacoError


class ShapeMismatchError(LacoError):
    """Two tensors that should be the same have different shapes."""


@dataclass(frozen=True)
class Tolerance:
    """What is allowed between two tensors.

    Attributes:
        cosine: at least this.
        norm_drift: the norms' ratio is within this of 1.
        max_abs: the largest absolute difference is at most this share of the largest magnitude that is expected.
    """

    cosine: float
    norm_drift: float
    max_abs: float

    @classmethod
    def of_relative_error(cls, error: float) -> Tolerance:
        """The tolerance that a relative error ``‖actual − expected‖ / ‖expected‖`` of ``error`` just meets.

        An error orthogonal to the tensor costs ``error²/2`` of cosine, one along it ``error`` of norm. The largest of
        many Gaussian values stands about as far above their RMS as the largest error above its own: twice the share
        leaves room for that.
        """
        return cls(cosine=1 - error**2 / 2, norm_drift=error, max_abs=2 * error)


@dataclass(frozen=True)
class Agreement:
    """One tensor against what is expected of it; over several pictures, the worst of each number.

    Attributes:
        cosine: over the whole tensor of a picture.
        norm_ratio: the actual norm over the expected one, the one furthest from 1.
        max_abs: largest absolute difference.
        largest: largest magnitude expected, of the picture with the largest share ``max_abs / largest``.
        worst_token_cosine: the least cosine of a single token, for the reader: a few large tokens rule the whole.
        tolerance: what this tensor is held to.
    """

    name: str
    cosine: float
    norm_ratio: float
    max_abs: float
    largest: float
    worst_token_cosine: float
    tolerance: Tolerance | None = None

    def within(self, tolerance: Tolerance | None = None) -> bool:
        """Whether the three numbers are within ``tolerance``, by default the tensor's own. NaN never is."""
        allowed = tolerance or self.tolerance
        return (
            self.cosine >= allowed.cosine
            and abs(self.norm_ratio - 1) <= allowed.norm_drift
            and self.max_abs <= allowed.max_abs * self.largest
        )

    def share_used(self, tolerance: Tolerance | None = None) -> float:
        """The largest of the three numbers as a share of what ``tolerance`` allows it: above 1 where it is not within;
        inf where something is NaN, or differs and must not."""
        allowed = tolerance or self.tolerance
        pairs = (
            (1 - self.cosine, 1 - allowed.cosine),
            (abs(self.norm_ratio - 1), allowed.norm_drift),
            (self.max_abs, allowed.max_abs * self.largest),
        )
        shares = [used / most if most > 0 else math.inf if used > 0 else 0.0 for used, most in pairs]
        return max(shares) if all(math.isfinite(share) for share in shares) else math.inf

    @property
    def relative_error(self) -> float:
        """``‖actual − expected‖ / ‖expected‖``, from cosine and norm ratio; NaN where either is."""
        squared = 1 + self.norm_ratio**2 - 2 * self.norm_ratio * self.cosine
        return math.sqrt(max(squared, 0.0))  # in this order: NaN is neither less nor more, and stays

    def numbers(self) -> str:
        """The three numbers in one line."""
        return f"cosine {self.cosine:.7f}, norm ratio {self.norm_ratio:.5f}, max abs {self.max_abs:.2e}"

    def to_dict(self) -> dict:
        """For a manifest or a ``--json`` document; numbers that are none become None, which JSON can hold."""
        return {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in asdict(self).items()
        }


def agreement(name: str, expected: np.ndarray, actual: np.ndarray, tolerance: Tolerance | None = None) -> Agreement:
    """Compare two tensors ``[…, tokens, C]``; inf or NaN anywhere gives NaN.

    Cosine and norm ratio are put together from sums over the *difference*, in float32 by token and then in float64.
    A difference of two close numbers is exact, so that a disagreement of 1e-7 is measured to a few digits, which the
    textbook formula on float32 cannot, and no float64 copy of the tensors is made.

    Raises:
        ShapeMismatchError: the shapes differ.
    """
    if expected.shape != actual.shape:
        raise ShapeMismatchError(f"{name} has another shape", given=list(actual.shape), allowed=list(expected.shape))
    left = np.ascontiguousarray(expected, np.float32).reshape(-1, expected.shape[-1])  # [tokens, C]
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.asarray(actual, np.float32).reshape(left.shape) - left
        squares = _by_token(left, left)
        cross = _by_token(left, difference)
        errors = _by_token(difference, difference)
        largest, max_abs = _largest(left), _largest(difference)
        cosine, norm_ratio = _cosine_and_ratio(squares.sum(), cross.sum(), errors.sum())
        tokens, _ = _cosine_and_ratio(squares, cross, errors)
    return Agreement(
        name, float(cosine), float(norm_ratio), max_abs, largest, float(np.min(tokens)), tolerance=tolerance
    )


def worst_of(per_picture: Sequence[Agreement]) -> Agreement:
    """The worst of each number over several pictures of one tensor; NaN stays NaN."""
    share = max(
        per_picture, key=lambda picture: picture.max_abs / picture.largest if picture.largest else picture.max_abs
    )
    broken = next((picture for picture in per_picture if not math.isfinite(picture.norm_ratio)), None)
    furthest = broken or max(per_picture, key=lambda picture: abs(picture.norm_ratio - 1))
    return Agreement(
        per_picture[0].name,
        cosine=float(np.min([picture.cosine for picture in per_picture])),
        norm_ratio=furthest.norm_ratio,
        max_abs=(broken or share).max_abs,
        largest=(broken or share).largest,
        worst_token_cosine=float(np.min([picture.worst_token_cosine for picture in per_picture])),
        tolerance=per_picture[0].tolerance,
    )


def worst(tensors: Sequence[Agreement]) -> Agreement:
    """The tensor with the lowest cosine; NaN is lower than any."""
    return min(tensors, key=lambda tensor: tensor.cosine if math.isfinite(tensor.cosine) else -2.0)


def _by_token(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.einsum("tc,tc->t", left, right).astype(np.float64)


def _largest(tensor: np.ndarray) -> float:
    return float(max(-tensor.min(), tensor.max())) + 0.0 if tensor.size else 0.0  # never -0.0


def _cosine_and_ratio(squares, cross, errors):
    """From ``‖x‖²``, ``x·d`` and ``‖d‖²`` the cosine of x and x + d, and ``‖x + d‖ / ‖x‖``; zeros agree with zeros."""
    actual_squares = squares + 2 * cross + errors  # ‖x + d‖²
    both_zero = (squares == 0) & (errors == 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        sine_squared = (squares * errors - cross**2) / (squares * actual_squares)
        cosine = np.where(both_zero, 1.0, np.sqrt(np.clip(1 - sine_squared, 0, 1)) * np.sign(squares + cross))
        ratio = np.where(both_zero, 1.0, np.sqrt(np.maximum(actual_squares, 0)) / np.sqrt(squares))
    finite = np.isfinite(squares) & np.isfinite(actual_squares) & (both_zero | (squares > 0) & (actual_squares > 0))
    return np.where(finite, cosine, np.nan), np.where(finite, ratio, np.nan)
