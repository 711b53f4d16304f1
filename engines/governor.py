"""Which depth answers the next request: the most accurate one with which a deadline is met, and what is watched stays
below its limits.

::

    governor = Governor({"1/2": 2.3e11, "1/4": 1.6e11}, GovernorRules(deadline_ms=400))
    choice = governor.choose(Moment(at_s=time.monotonic(), ahead=("1/2",)))      # choice.depth, choice.reason
    governor.observe(choice.depth, encode_ms=…, prefill_ms=…, decode_ms=…)       # once it is answered

The depths are rungs of a ladder, the most accurate at the top. Down it goes at once, by as many rungs as it takes; up
by one rung, when several decisions in a row had room for it. Nothing is read or timed here: a recorded trace of moments
gives the same choices again. What is watched is read by :mod:`.devices.watched`.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

from laco_export.bundle import Manifest
from laco_export.carried_depths import depth_name
from laco_export.errors import UsageError

NEW_SHARE = 0.3
"""Of a new measurement in the running mean: a change of load shows after three answers, and one stalled answer moves
an estimate by a third."""

RENEWED_SHARE = 0.1
"""Of what other depths' answers let expect, in an estimate that is above it: one slow answer must not keep a depth,
which is not asked and so not timed any more, out of use for good."""


@dataclass(frozen=True)
class GovernorRules:
    """What the choice is held to. At least one of the first three is set.

    Attributes:
        deadline_ms: from a request's arrival to the first token of its answer. It is to be met by the next request too,
            at the fastest depth.
        waiting_per_step: for each so many requests that are ahead, the depth is a rung lower.
        limits: of the values that are watched, in the order of :attr:`Moment.values`. While one is above its limit the
            depth goes a rung lower every ``settle_s`` seconds.
        back_below: it goes up again where the higher rung would take no more than this share of the deadline, and each
            value is below this share of its limit.
        calm: decisions in a row that must have room for a higher rung before it is taken.
        settle_s: a board's temperature follows its load in tens of seconds.
    """

    deadline_ms: float | None = None
    waiting_per_step: int | None = None
    limits: tuple[float, ...] = ()
    back_below: float = 0.8
    calm: int = 3
    settle_s: float = 10.0

    def __post_init__(self) -> None:
        if self.deadline_ms is None and self.waiting_per_step is None and not self.limits:
            raise UsageError("nothing says when a depth is too slow", allowed="a deadline, a queue length or a limit")
        for option, value in (("--deadline", self.deadline_ms), ("--waiting-per-step", self.waiting_per_step)):
            if value is not None and not 0 < value < float("inf"):
                raise UsageError(f"{option} is a number above 0", given=value)
        for limit in self.limits:
            if not 0 < limit < float("inf"):
                raise UsageError("a limit of --keep-below is a number above 0", given=limit)


@dataclass(frozen=True)
class Moment:
    """What is known when a request is to be given its depth.

    Attributes:
        at_s: seconds of any clock that only rises.
        ahead: the depth of each request that is answered before it, the one that is being answered first.
        running_ms: for so long that one has been computed already.
        waited_ms: since this request's arrival.
        values: of what is watched; None where a sensor does not answer.
    """

    at_s: float
    ahead: tuple[str, ...] = ()
    running_ms: float = 0.0
    waited_ms: float = 0.0
    values: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class GovernorChoice:
    """A depth, and why it is not a more accurate one.

    Attributes:
        predicted_ms: from the request's arrival to its first token; None where no answer was timed yet.
    """

    depth: str
    reason: str
    predicted_ms: float | None


class Governor:
    """Chooses depths; several threads may share it.

    Args:
        flops: depth → the vision tower's operations a picture. More operations are taken for more accurate: what is
            merged later has seen more.
        rules: what the choice is held to.
    """

    def __init__(self, flops: Mapping[str, float], rules: GovernorRules):
        self.ladder = tuple(sorted(flops, key=flops.__getitem__, reverse=True))
        self._rules, self._costs = rules, _Costs(flops)
        self._rung, self._calm = 0, 0
        self._heat, self._heat_changed_s = 0, -float("inf")
        self._one_at_a_time = threading.Lock()

    @classmethod
    def of_manifest(cls, manifest: Manifest, rules: GovernorRules) -> Governor:
        """Over all depths that a bundle carries.

        Raises:
            UsageError: it carries one.
        """
        depths = [depth_name(compression) for compression in manifest.compressions]
        if len(depths) == 1:
            raise UsageError(
                "there is no depth to choose: the bundle has one",
                given=depths[0],
                todo="export several: laco-export --at all",
            )
        return cls({depth: manifest.at(depth).vision.flops["total"] for depth in depths}, rules)

    def choose(self, moment: Moment) -> GovernorChoice:
        """The depth of the next request."""
        with self._one_at_a_time:
            wanted = self._wanted(moment)
            rung, reason = max(wanted.items(), key=lambda entry: entry[0]) if wanted else (0, "nothing asks for less")
            if rung >= self._rung:
                self._rung, self._calm = rung, 0
            else:
                self._calm = self._calm + 1 if max(self._wanted(moment, careful=True), default=0) < self._rung else 0
                reason = f"it was lower, and goes up after {self._rules.calm} requests with room for more"
                if self._calm >= self._rules.calm:
                    self._rung, self._calm = self._rung - 1, 0
            depth = self.ladder[self._rung]
            return GovernorChoice(depth, reason, self._predicted_ms(depth, moment))

    def observe(
        self, depth: str, *, encode_ms: float, prefill_ms: float | None = None, decode_ms: float | None = None
    ) -> None:
        """Take in what an answer took.

        Args:
            encode_ms: 0 where its pictures were encoded before: that says nothing of the tower.
            prefill_ms, decode_ms: None where a picture was encoded and nothing answered.
        """
        with self._one_at_a_time:
            self._costs.observe(depth, encode_ms, prefill_ms, decode_ms)

    def _wanted(self, moment: Moment, *, careful: bool = False) -> dict[int, str]:
        """By each rule the rung that it asks for, with the reason, where it is not the first.

        Args:
            careful: with the room that going up takes.
        """
        rungs = [self._by_deadline(moment, careful), self._by_waiting(moment)]
        rungs.append(self._heat if careful else self._by_values(moment))
        reasons = (
            f"a deadline of {self._rules.deadline_ms or 0:g} ms",
            f"{len(moment.ahead)} requests ahead",
            "what is watched is above its limit, or was a short time ago",
        )
        return {rung: reason for rung, reason in zip(rungs, reasons) if rung > 0}

    def _by_deadline(self, moment: Moment, careful: bool) -> int:
        if self._rules.deadline_ms is None or not self._costs.known:
            return 0
        allowed = self._rules.deadline_ms * (self._rules.back_below if careful else 1)
        fastest_ms, ahead_ms = self._costs.first_token_ms(self.ladder[-1]), self._ahead_ms(moment)
        for rung, depth in enumerate(self.ladder):
            in_time = self._predicted_ms(depth, moment) <= allowed
            leaves_room = ahead_ms + self._costs.answer_ms(depth) + fastest_ms <= allowed
            if in_time and leaves_room:  # for one that comes now: else the queue grows until no depth is fast enough
                return rung
        return len(self.ladder) - 1

    def _by_waiting(self, moment: Moment) -> int:
        if self._rules.waiting_per_step is None:
            return 0
        return min(len(moment.ahead) // self._rules.waiting_per_step, len(self.ladder) - 1)

    def _by_values(self, moment: Moment) -> int:
        """Steps down and up in its own time: what is watched answers slowly."""
        shares = [value / limit for value, limit in zip(moment.values, self._rules.limits) if value is not None]
        if not shares or moment.at_s - self._heat_changed_s < self._rules.settle_s:
            return self._heat
        step = 1 if max(shares) > 1 else -1 if max(shares) < self._rules.back_below else 0
        heat = min(max(self._heat + step, 0), len(self.ladder) - 1)
        if heat != self._heat:
            self._heat, self._heat_changed_s = heat, moment.at_s
        return heat

    def _predicted_ms(self, depth: str, moment: Moment) -> float | None:
        if not self._costs.known:
            return None
        return moment.waited_ms + self._ahead_ms(moment) + self._costs.first_token_ms(depth)

    def _ahead_ms(self, moment: Moment) -> float:
        """Until all that is ahead is answered."""
        ahead = [self._costs.answer_ms(other) for other in moment.ahead]
        if ahead:
            ahead[0] = max(0.0, ahead[0] - moment.running_ms)
        return sum(ahead)


class _Costs:
    """What a request takes at each depth: running means of what was timed, scaled by operations where nothing was, and
    brought down where other depths have become faster."""

    def __init__(self, flops: Mapping[str, float]):
        self._flops = flops
        self._encode: dict[str, float] = {}
        self._prefill: dict[str, float] = {}
        self._decode: float | None = None

    @property
    def known(self) -> bool:
        """Whether a picture was encoded and timed, at any depth."""
        return bool(self._encode)

    def observe(self, depth: str, encode_ms: float, prefill_ms: float | None, decode_ms: float | None) -> None:
        if encode_ms > 0:
            self._encode[depth] = _mean(self._encode.get(depth), encode_ms)
            expected = {other: encode_ms * self._flops[other] / self._flops[depth] for other in self._encode}
            _renew(self._encode, depth, expected)
        if prefill_ms is not None:
            self._prefill[depth] = _mean(self._prefill.get(depth), prefill_ms)
            _renew(self._prefill, depth, dict.fromkeys(self._prefill, prefill_ms))
        if decode_ms is not None:
            self._decode = _mean(self._decode, decode_ms)

    def first_token_ms(self, depth: str) -> float:
        """Encode and prefill."""
        return self._encode_ms(depth) + self._prefill_ms(depth)

    def answer_ms(self, depth: str) -> float:
        """All of it."""
        return self.first_token_ms(depth) + (self._decode or 0.0)

    def _encode_ms(self, depth: str) -> float:
        if depth in self._encode:
            return self._encode[depth]
        timed = min(self._encode, key=lambda other: abs(self._flops[other] - self._flops[depth]))
        return self._encode[timed] * self._flops[depth] / self._flops[timed]

    def _prefill_ms(self, depth: str) -> float:
        if depth in self._prefill or not self._prefill:
            return self._prefill.get(depth, 0.0)
        return sum(self._prefill.values()) / len(self._prefill)


def _mean(before: float | None, new: float) -> float:
    return new if before is None else (1 - NEW_SHARE) * before + NEW_SHARE * new


def _renew(estimates: dict[str, float], timed: str, expected: Mapping[str, float]) -> None:
    """Bring estimates of the depths that were not timed now closer to what is expected, where that is less."""
    for depth, before in estimates.items():
        if depth != timed and expected[depth] < before:
            estimates[depth] = (1 - RENEWED_SHARE) * before + RENEWED_SHARE * expected[depth]
