"""Which blocks are computed in eight bits: the fastest set that stays within the budget.

A block that gains no time is out. The others are taken in the order of error per second gained, cheapest first, and the
longest run of that order whose *measured* error as a whole is within the budget is found by bisection (errors of blocks
add up only roughly, so that the whole is always measured). Then each block that was passed over is tried once more, the
largest gain first. Where no time could be measured every block counts the same and accuracy alone decides.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from .block_errors import FeatureError


@dataclass(frozen=True)
class BlockTime:
    """Milliseconds of one block: in the base precision and in eight bits."""

    base: float
    eight_bit: float

    @property
    def gain(self) -> float:
        return self.base - self.eight_bit


@dataclass(frozen=True)
class Choice:
    """What was chosen.

    Attributes:
        blocks: in eight bits, in the order of the computation.
        error: of all of them together; None where there are none.
        reasons: why each other block stays as it is.
    """

    blocks: tuple[str, ...]
    error: FeatureError | None
    reasons: dict[str, str]


def choose_blocks(
    errors: Mapping[str, FeatureError],
    times: Mapping[str, BlockTime] | None,
    max_drop: float,
    measure: Callable[[Collection[str]], FeatureError],
) -> Choice:
    """Choose within ``max_drop`` points.

    Args:
        errors: each block swapped alone, in the order of the computation.
        times: None where the target device is not there.
        measure: the error of a set of blocks together.
    """
    reasons: dict[str, str] = {}
    candidates = []
    for name, error in errors.items():
        if times is not None and times[name].gain <= 0:
            reasons[name] = f"not faster: {times[name].eight_bit:.2f} ms against {times[name].base:.2f} ms"
        elif not error.points <= max_drop:
            reasons[name] = f"alone it drops {error.points:.3g} points, above {max_drop:g}"
        else:
            candidates.append(name)
    gain = lambda name: times[name].gain if times is not None else 1.0
    order = sorted(candidates, key=lambda name: errors[name].points / gain(name))
    chosen, error = _longest_within(order, max_drop, measure)
    passed_over = [name for name in order if name not in chosen]
    for name in sorted(passed_over, key=lambda name: -gain(name)):
        tried = measure([*chosen, name])
        if tried.points <= max_drop:
            chosen, error = [*chosen, name], tried
        else:
            reasons[name] = f"with it the whole drops {tried.points:.3g} points, above {max_drop:g}"
    return Choice(tuple(name for name in errors if name in chosen), error, reasons)


def _longest_within(
    order: Sequence[str], max_drop: float, measure: Callable[[Collection[str]], FeatureError]
) -> tuple[list[str], FeatureError | None]:
    """The longest prefix of ``order`` within the budget, by bisection."""
    if not order:
        return [], None
    whole = measure(order)
    if whole.points <= max_drop:
        return list(order), whole
    low, high, error = 0, len(order), None  # the prefix of `low` is within, that of `high` is not
    while high - low > 1:
        middle = (low + high) // 2
        tried = measure(order[:middle])
        if tried.points <= max_drop:
            low, error = middle, tried
        else:
            high = middle
    return list(order[:low]), error
