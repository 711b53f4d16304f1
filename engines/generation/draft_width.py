"""How many positions the next pass reads: what pays off by what was accepted so far, and can be afforded.

Guessing wrong costs what a pass takes more than a step. So each pass is paid for in advance: it is only made where, if
all of its draft is wrong, the answer up to there still comes at :data:`LEAST_SPEED` of the speed without drafts. That
bounds the loss of any answer by counting, whatever its text; see ``docs/prompt-lookup.md``.
"""

from __future__ import annotations

from collections.abc import Mapping

LEAST_SPEED = 0.98
"""Of the speed without drafts, by the measured costs. The hundredth above what is promised (0.97) is for what these
leave out: looking drafts up, and that a busy machine measures them a little wrong."""

_PRIOR_ACCEPTED, _PRIOR_OFFERED = 1.4, 2.0
"""What is thought of drafts of a kind that was never tried: 0.7 of their tokens right, as if two had been seen."""

_KEPT = 0.9
"""Of what was seen, at each further draft of the kind: the last ten count."""

_RETRY = 0.005
"""Of the way back to the prior, at each draft of a kind that is passed up: what failed is tried again some time."""

_KINDS = (3, 6, 12)  # least tokens of a match, of the second kind, the third and the fourth


class DraftWidth:
    """Chooses passes for one answer.

    Args:
        over_step: time over a step's by positions of a pass, of :class:`~.pass_costs.PassCosts`.

    Attributes:
        over_step: as given.
        longest: positions of the longest pass.
        passes: made so far.
        spent: their time, in steps.
    """

    def __init__(self, over_step: Mapping[int, float]):
        self.over_step = dict(over_step)
        self._seen = [(_PRIOR_ACCEPTED, _PRIOR_OFFERED)] * (len(_KINDS) + 1)  # accepted, offered
        self.longest = max(self.over_step)
        self.passes = self._steps = 0
        self.spent = 0.0

    def count_step(self) -> None:
        """A step is asked for, whether a pass has made it already or not."""
        self._steps += 1

    def choose(self, match: int, most: int) -> int:
        """Positions of the next pass, its first token included; 1 for a plain step.

        Args:
            match: of the :class:`~.prompt_lookup.Draft`.
            most: positions that are left.
        """
        accepted, offered = self._seen[_kind(match)]
        share = accepted / offered
        can = [w for w, cost in self.over_step.items() if w == 1 or (w <= most and self._can_afford(cost))]
        width = max(can, key=lambda w: sum(share**index for index in range(w)) / self.over_step[w])
        if width == 1:
            kind, prior = _kind(match), (_PRIOR_ACCEPTED, _PRIOR_OFFERED)
            self._seen[kind] = tuple((1 - _RETRY) * seen + _RETRY * p for seen, p in zip(self._seen[kind], prior))
        return width

    def spend(self, width: int) -> None:
        """A pass over ``width`` positions was made."""
        self.passes += 1
        self.spent += self.over_step[width]

    def judge(self, match: int, accepted: int, offered: int) -> None:
        """So many of a draft's tokens were right before one was wrong, of so many that were looked at."""
        before = self._seen[_kind(match)]
        looked_at = min(accepted + 1, offered)
        self._seen[_kind(match)] = (_KEPT * before[0] + accepted, _KEPT * before[1] + looked_at)

    def _can_afford(self, cost: float) -> bool:
        return self.spent + cost <= self._steps / LEAST_SPEED


def _kind(match: int) -> int:
    return sum(match >= least for least in _KINDS)
