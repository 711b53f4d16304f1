"""The best choice by as few measurements as prove it.

A figure that was not measured lies between bounds: above the floor of its arithmetic, and between those of candidates
that differ in nothing but the operations of their vision tower, since time grows with these, type by type. (Threads,
batch sizes and precisions bound nothing: fewer bits may be slower.) What is measured next is what could be the best
choice; the search ends when nothing that is left could be better than the best that is known to keep the limits. Of
answers nothing is bounded but that nobody keeps more than all: they are asked where they can decide.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .figures import BOUNDED, Figure
from .floors import TextFloor
from .gauges import Gauge
from .limits import Limits, Miss, Quantity, TextFigures, least, misses, most
from .quality import QualitySource
from .space import Candidate, Model

ANSWERS, TIME, MEMORY = "answers", "time", "memory"
PREFERENCES = (ANSWERS, TIME, MEMORY)

_USUAL_TIMES_FLOOR = 1.3
"""A guess where nothing like a candidate was measured: full-size towers took 1.27 to 1.36 of their floors on a CPU
(benchmarks/results/bench_by_depth.json). It orders the search and decides nothing."""


@dataclass(frozen=True)
class Assessed:
    """A candidate with what is known of it.

    Attributes:
        encode: milliseconds of the vision tower on all pictures of a question.
        text: the language model's part, where the quantity has one.
        time: milliseconds of the quantity.
        memory: bytes at the peak; bounded where only arithmetic is known.
        drop: points of answers lost; None without a source.
        misses: the limits that it certainly does not keep.
    """

    candidate: Candidate
    encode: Figure
    text: TextFigures | None
    time: Figure
    memory: Figure
    drop: Figure | None
    misses: tuple[Miss, ...]


class Search:
    """Over a space of candidates.

    Args:
        prefer: of what keeps the limits, what is best: the fewest points lost, the least time, or the least memory;
            ties go to the next of the three.
        quality: None where nothing is known of answers, which then count for nothing.
    """

    def __init__(
        self,
        space: Sequence[Candidate],
        quantity: Quantity,
        limits: Limits,
        gauge: Gauge,
        quality: QualitySource | None,
        prefer: str,
    ):
        self._space, self._quantity, self._limits = list(space), quantity, limits
        self._gauge, self._quality, self._prefer = gauge, quality, prefer
        self._encode: dict[tuple, tuple[Candidate, Figure]] = {}  # by graph and settings: bundles may share a graph
        self._text: dict[tuple, TextFigures] = {}
        self._memory: dict[Candidate, Figure] = {}
        self._drop: dict[Model, Figure] = {}
        self._vision_keys = {candidate: _vision_key(candidate) for candidate in self._space}
        self._chains = {candidate: _chain(candidate) for candidate in self._space}
        self._operations = {candidate: gauge.operations(candidate) for candidate in self._space}
        self._memory_guesses = {candidate: gauge.memory_guess(candidate) for candidate in self._space}
        self._floors = {candidate: gauge.vision_floor_ms(candidate) for candidate in self._space}
        texts = {candidate: gauge.text_floor(candidate) for candidate in self._space if quantity.needs_text}
        self._text_floors = {candidate: _bounded_text(floor) for candidate, floor in texts.items()}

    def run(self, *, everything: bool = False) -> list[Assessed]:
        """Measure until the best is known, and tell what is known of all.

        Args:
            everything: measure all of it, for a comparison of what the search chose with the true best.
        """
        for candidate in self._space:
            self._recall(candidate)
        while True:
            assessed = {candidate: self._known(candidate) for candidate in self._space}
            step = self._unknown(assessed) if everything else self._next(assessed)
            if step is None:
                return sorted(assessed.values(), key=self._order)
            step()

    def best(self, assessed: Sequence[Assessed]) -> Assessed | None:
        """The best of those that are known to keep the limits."""
        keeping = [each for each in assessed if self._keeps(each)]
        return min(keeping, key=self._order, default=None)

    def better(self, assessed: Sequence[Assessed], best: Assessed | None) -> list[Assessed]:
        """What could have been better than the best, and does not keep a limit: of each model the way to run it that
        comes closest, in the order of preference."""
        closest: dict[Model, Assessed] = {}
        for each in assessed:
            closest_yet = closest.get(each.candidate.model)
            if closest_yet is None or _farthest(each) < _farthest(closest_yet):
                closest[each.candidate.model] = each
        failing = [each for each in closest.values() if each.misses]
        if best is None:
            return sorted(failing, key=_farthest)
        return sorted((each for each in failing if self._optimistic(each) < self._order(best)), key=self._guessed)

    # What is done next

    def _next(self, assessed: dict[Candidate, Assessed]):
        best = self.best(list(assessed.values()))
        open_ones = [each for each in assessed.values() if not each.misses and not self._complete(each)]
        contenders = [each for each in open_ones if best is None or self._optimistic(each) < self._order(best)]
        if not contenders:
            return None
        if self._prefer == ANSWERS and self._limits.time_ms is not None:
            undecided = self._undecided(contenders, assessed)
            if undecided:
                return lambda: self._measure(min(undecided, key=self._undecided_order).candidate)
        promising = min(contenders, key=self._guessed)
        return self._step_of(promising)

    def _undecided(self, contenders: list[Assessed], assessed: dict[Candidate, Assessed]) -> list[Assessed]:
        """Ways to run a model of which none is known to keep the time."""
        in_time = {each.candidate.model for each in assessed.values() if most(each.time) <= self._limits.time_ms}
        return [each for each in contenders if each.candidate.model not in in_time and not each.time.is_known]

    def _undecided_order(self, each: Assessed) -> tuple:
        """First those that seem to keep the time: the fewest points lost where that is known, else the most operations,
        whose keeping it shows that smaller ones do. Then those that seem not to, the fewest operations first, whose
        missing it shows that larger ones do."""
        operations = sum(self._operations[each.candidate].values())
        seems_in_time = each.time.value <= self._limits.time_ms
        lost = least(each.drop) if each.drop is not None and each.drop.is_known else 0.0
        return (not seems_in_time, lost, -operations if seems_in_time else operations, each.time.value)

    def _step_of(self, each: Assessed):
        """The first thing that is not known of a contender, what decides at the least cost first."""
        candidate, steps = each.candidate, []
        if not self._time_decided(each):
            steps.append(lambda: self._measure(candidate))
        if self._needs_memory and not each.memory.is_known:
            steps.append(lambda: self._weigh(candidate))
        if each.drop is not None and not each.drop.is_known:
            steps.append(lambda: self._ask(candidate.model))
        if not each.time.is_known:
            steps.append(lambda: self._measure(candidate))
        return steps[0]

    def _unknown(self, assessed: dict[Candidate, Assessed]):
        """Anything that is not known."""
        for each in assessed.values():
            if not self._complete(each):
                return self._step_of(each)
        return None

    # What is known

    @property
    def _needs_memory(self) -> bool:
        return self._limits.memory_bytes is not None or self._prefer == MEMORY

    def _complete(self, each: Assessed) -> bool:
        weighed = each.memory.is_known or not self._needs_memory
        return each.time.is_known and weighed and (each.drop is None or each.drop.is_known)

    def _keeps(self, each: Assessed) -> bool:
        return not each.misses and self._complete(each)

    def _time_decided(self, each: Assessed) -> bool:
        """Whether the time is known as far as it comes before answers."""
        if self._prefer == TIME:
            return each.time.is_known
        return self._limits.time_ms is None or most(each.time) <= self._limits.time_ms

    def _order(self, each: Assessed) -> tuple:
        return self._key(most, each)

    def _optimistic(self, each: Assessed) -> tuple:
        return self._key(least, each)

    def _guessed(self, each: Assessed) -> tuple:
        """What it would be if guesses were right and answers unknown were all kept."""
        lost = 0.0 if each.drop is None else least(each.drop)
        return self._ranked(lost, each.time.value, each.memory.value)

    def _key(self, end, each: Assessed) -> tuple:
        lost = 0.0 if each.drop is None else end(each.drop)
        # Where memory is not what is asked for it breaks ties alone, and arithmetic will do.
        memory = end(each.memory) if self._needs_memory else each.memory.value
        return self._ranked(lost, end(each.time), memory)

    def _ranked(self, lost: float, time: float, memory: float) -> tuple:
        values = {ANSWERS: lost, TIME: time, MEMORY: memory}
        rest = [name for name in PREFERENCES if name != self._prefer]
        return tuple(values[name] for name in (self._prefer, *rest))

    def _known(self, candidate: Candidate) -> Assessed:
        encode = self._encoded(candidate) or self._bounded(candidate)
        text = self._text_part(candidate)
        time = self._quantity.of(encode, text)
        memory = self._memory.get(candidate) or self._memory_guesses[candidate]
        drop = self._drop.get(candidate.model)
        if drop is None and self._quality is not None:
            drop = self._quality.recorded(candidate.model) or Figure(0.0, 0.0, 100.0, frozenset({BOUNDED}))
        held = memory if memory.is_known else None
        missed = tuple(misses(self._limits, time, held, drop))
        return Assessed(candidate, encode, text, time, memory, drop, missed)

    def _encoded(self, candidate: Candidate) -> Figure | None:
        return self._encode.get(self._vision_keys[candidate], (None, None))[1]

    def _bounded(self, candidate: Candidate) -> Figure:
        """Between the floor and those with fewer and with more operations; a guess by the most similar one measured."""
        alike = [
            (self._operations[other], figure.value)
            for other, figure in self._encode.values()
            if self._chains[other] == self._chains[candidate]
        ]
        own = self._operations[candidate]
        low = max([self._floors[candidate] or 0.0, *(ms for others, ms in alike if _no_more(others, own))])
        high = min((ms for others, ms in alike if _no_more(own, others)), default=math.inf)
        guess = min(max(self._guess(candidate), low), high)
        return Figure(guess, min(low, high), high, frozenset({BOUNDED}))

    def _guess(self, candidate: Candidate) -> float:
        """Floor times what the most similar measured candidate took of its own; without floors by operations."""
        size = lambda other: self._floors[other] or float(sum(self._operations[other].values()))
        for alike in (self._chains.get, _settings, _precision, lambda other: None):
            ratios = [
                figure.value / size(other)
                for other, figure in self._encode.values()
                if alike(other) == alike(candidate) and size(other)
            ]
            if ratios:
                return size(candidate) * sum(ratios) / len(ratios)
        return _USUAL_TIMES_FLOOR * (self._floors[candidate] or 0.0)

    def _text_part(self, candidate: Candidate) -> TextFigures | None:
        if not self._quantity.needs_text:
            return None
        return self._text.get(_text_key(candidate)) or self._text_floors[candidate]

    # Steps

    def _recall(self, candidate: Candidate) -> None:
        self._keep(candidate, *self._gauge.recorded(candidate))

    def _measure(self, candidate: Candidate) -> None:
        with_encode = self._encoded(candidate) is None
        with_text = self._quantity.needs_text and _text_key(candidate) not in self._text
        self._keep(candidate, *self._gauge.measure(candidate, encode=with_encode, text=with_text))

    def _keep(self, candidate: Candidate, encode: Figure | None, text: TextFigures | None) -> None:
        if encode is not None:
            self._encode[self._vision_keys[candidate]] = (candidate, encode)
        if text is not None:
            self._text[_text_key(candidate)] = text

    def _weigh(self, candidate: Candidate) -> None:
        self._memory[candidate] = self._gauge.memory(candidate)

    def _ask(self, model: Model) -> None:
        self._drop[model] = self._quality.drop(model)


def _farthest(each: Assessed) -> float:
    """How many times over its limits a candidate is, by the worst of them; 0 where it keeps all."""
    return max((miss.times for miss in each.misses), default=0.0)


def _bounded_text(floor: TextFloor | None) -> TextFigures:
    """Above its floor, however far."""
    prefill, token = (0.0, 0.0) if floor is None else (floor.prefill_ms, floor.token_ms)
    bounded = (
        Figure(_USUAL_TIMES_FLOOR * least_ms, least_ms, math.inf, frozenset({BOUNDED}))
        for least_ms in (0.0, prefill, token)
    )
    return TextFigures(*bounded)


def _no_more(operations: Mapping[str, int], others: Mapping[str, int]) -> bool:
    """Whether there are no more than others of any type. An eight-bit tower with fewer blocks in eight bits may have
    fewer operations in all and more in FP32: neither bounds the other."""
    if not operations or not others:
        return False
    return all(operations.get(kind, 0) <= others.get(kind, 0) for kind in {*operations, *others})


def _chain(candidate: Candidate) -> tuple:
    """What candidates have in common whose times are ordered by their operations."""
    vision = candidate.model.bundle.manifest.vision
    return (
        candidate.batch,
        candidate.threads,
        candidate.tiles,
        vision.precision,
        vision.target,
        vision.products,
        vision.graphs[0].input,
    )


def _vision_key(candidate: Candidate) -> tuple:
    """What the vision tower's time depends on."""
    return candidate.vision_sha256, candidate.threads


def _settings(candidate: Candidate) -> tuple:
    return candidate.batch, candidate.threads


def _precision(candidate: Candidate) -> tuple:
    return candidate.threads, candidate.model.precision


def _text_key(candidate: Candidate) -> tuple:
    """What the language model's part depends on."""
    compression = candidate.model.bundle.manifest.compression
    return candidate.model.decoder_sha256, candidate.threads, compression["tokens_after"]
