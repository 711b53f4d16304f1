"""Each part's share of what a bundle lost, and what is left over.

A part is switched on alone (the reference with this part of the bundle) and back alone (the bundle with this part of
the reference). Its share is the mean of what the first loses and what the second wins back. Where parts act
independently the two are equal, and the shares add up to the whole. Where they act together in pairs the shares still
add up, and are Shapley's values (Shapley 1953, A value for n-person games), which average over all orders of switching.
What three and more parts do together is the rest, which is stated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .losses import Loss

REST, TOTAL = "several parts together", "all parts"


@dataclass(frozen=True)
class PartShare:
    """A part's share; or the rest, or the whole.

    Attributes:
        part: its name.
        share: of what was lost.
        alone: what it loses switched on alone; None of the rest.
        won_back: what switching it back alone wins; None of the rest.
        is_total: it is the whole.
    """

    part: str
    share: Loss
    alone: Loss | None = None
    won_back: Loss | None = None
    is_total: bool = False

    def to_dict(self, total: Loss) -> dict:
        """For ``--json`` and the report: points are hundredths of answers, errors parts of 1, log-probabilities nats a
        token.

        Args:
            total: of the whole, whose squared error ``feature_share`` is a part of.
        """
        share_of_error = self.share.squared_error / total.squared_error if total.squared_error else None
        return {
            "part": self.part,
            "points": 100 * self.share.answer,
            "first_token_points": 100 * self.share.first_token,
            "token_points": 100 * self.share.tokens,
            "logprob_lost": self.share.logprob,
            "feature_error": None if self.alone is None else self.alone.feature_error,
            "feature_share": share_of_error,
            "is_total": self.is_total,
            "alone": None if self.alone is None else _numbers(self.alone),
            "won_back": None if self.won_back is None else _numbers(self.won_back),
        }


@dataclass(frozen=True)
class PartLosses:
    """What was measured, of a question or in the mean.

    Attributes:
        base: the reference itself: 0, but where it does not repeat itself.
        whole: all parts switched to the bundle's.
        alone: part → only it switched on; back: part → all but it. A part that is the same in both has none.
        as_it_runs: the bundle on its runtime, where that is measured beside the parts.
    """

    base: Loss
    whole: Loss
    alone: Mapping[str, Loss]
    back: Mapping[str, Loss]
    as_it_runs: Loss | None = None


def share_out(parts: Sequence[str], losses: PartLosses, runtime: str | None = None) -> list[PartShare]:
    """The share of every part in its order, of the runtime where it was measured, the rest, and the whole.

    Args:
        parts: all of them.
        runtime: the part that is what the bundle's runtime makes of its graph, beside that graph in parts.
    """
    rows = [_share(part, losses) for part in parts]
    total = losses.whole.minus(losses.base)
    if losses.as_it_runs is not None and runtime is not None:
        by_runtime = losses.as_it_runs.minus(losses.whole)
        rows.append(PartShare(runtime, by_runtime, by_runtime, by_runtime))
        total = losses.as_it_runs.minus(losses.base)
    rest = total
    for row in rows:
        rest = rest.minus(row.share)
    return [*rows, PartShare(REST, rest), PartShare(TOTAL, total, total, total, is_total=True)]


def largest_share(rows: Sequence[PartShare]) -> PartShare | None:
    """The part that most of a loss came from: by answers, then by log-probability; None where no part lost any."""
    parts = [row for row in rows if row.alone is not None and not row.is_total]
    worst = max(parts, key=lambda row: (row.share.answer, row.share.logprob), default=None)
    return None if worst is None or max(worst.share.answer, worst.share.logprob) <= 0 else worst


def _share(part: str, losses: PartLosses) -> PartShare:
    if part not in losses.alone:
        return PartShare(part, Loss(), Loss(), Loss())
    alone, won_back = losses.alone[part].minus(losses.base), losses.whole.minus(losses.back[part])
    return PartShare(part, Loss().plus(alone, 0.5).plus(won_back, 0.5), alone, won_back)


def _numbers(loss: Loss) -> dict[str, float]:
    return {
        "points": 100 * loss.answer,
        "first_token_points": 100 * loss.first_token,
        "token_points": 100 * loss.tokens,
        "logprob_lost": loss.logprob,
        "squared_error": loss.squared_error,
    }
