"""Times that can be compared: what is compared runs in turn, and samples in which the machine did something else go.

A shared or throttled CPU stalls a run: its wall time grows while its CPU time does not. A sample whose CPU time over
wall time is well below the usual is thrown out and taken again; what is thrown out is counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

STALLED_BELOW = 0.85
"""Of the best tenth's CPU time over wall time: on two quiet cores the ratio varied by 3 %."""
MAX_EXTRA = 2
"""Times the wanted samples that are taken at most again: a machine that always stalls must not be waited for."""


@dataclass(frozen=True)
class TimedRun:
    """One run: milliseconds, and CPU time over wall time of this process."""

    ms: float
    cpu_ratio: float


@dataclass
class Series:
    """The samples of one subject.

    Attributes:
        on_cpu: the subject computes on the CPU, so that its CPU time says whether it stalled. A GPU's does not: CUDA
            waits by spinning on one system and by sleeping on another (on a Jetson the power profile decides).
    """

    on_cpu: bool
    samples: list[TimedRun] = field(default_factory=list)

    @property
    def is_accepted(self) -> list[bool]:
        """Which samples were not stalled, in order."""
        if not self.on_cpu or not self.samples:
            return [True] * len(self.samples)
        usual = np.quantile([sample.cpu_ratio for sample in self.samples], 0.9)
        return [sample.cpu_ratio >= STALLED_BELOW * usual for sample in self.samples]

    @property
    def accepted(self) -> list[TimedRun]:
        """Without the stalled ones."""
        return [sample for sample, is_accepted in zip(self.samples, self.is_accepted) if is_accepted]

    @property
    def rejected(self) -> int:
        return len(self.samples) - len(self.accepted)

    def quantile(self, share: float) -> float:
        """Milliseconds."""
        return float(np.quantile([sample.ms for sample in self.accepted], share))

    @property
    def cpu_ratio(self) -> float:
        """The median of the accepted samples."""
        return float(np.median([sample.cpu_ratio for sample in self.accepted]))

    def to_dict(self) -> dict:
        """For records: the median in milliseconds, the quartiles' distance over it, CPU time over wall time (well
        below the thread count means that the machine was busy elsewhere), and how many samples were thrown out."""
        median = self.quantile(0.5)
        return {
            "milliseconds": median,
            "spread": (self.quantile(0.75) - self.quantile(0.25)) / median,
            "cpu_over_wall": self.cpu_ratio,
            "rejected": self.rejected,
        }


def time_run(run: Callable[[], object]) -> TimedRun:
    """Run once."""
    start, cpu = time.perf_counter(), time.process_time()
    run()
    wall, used = time.perf_counter() - start, time.process_time() - cpu
    return TimedRun(1000 * wall, used / wall if wall else 0.0)


def interleave(
    subjects: Mapping[str, tuple[Callable[[], object], bool]],
    *,
    repeats: int,
    warmup: int,
    burst: int = 1,
    settling_runs: int = 0,
) -> dict[str, Series]:
    """Sample several subjects in turn, so that a drift of the machine meets all of them alike.

    Args:
        subjects: name → (run, whether it computes on the CPU).
        repeats: accepted samples wanted of each.
        warmup: runs of each before the first sample.
        burst: samples of a subject before it is the next one's turn.
        settling_runs: runs before each burst that are no samples. The threads of the session that ran before go on
            spinning for a while, and would take time from whoever runs next.
    """
    series = {name: Series(on_cpu) for name, (_, on_cpu) in subjects.items()}
    for run, _ in subjects.values():
        for _ in range(warmup):
            run()
    rounds = -(-repeats // burst)
    for round_number in range(rounds * (1 + MAX_EXTRA)):
        wanting = [name for name in subjects if len(series[name].accepted) < repeats]
        if not wanting:
            break
        for name in subjects if round_number < rounds else wanting:
            run = subjects[name][0]
            for _ in range(settling_runs):
                run()
            series[name].samples += [time_run(run) for _ in range(burst)]
    return series
