"""From the arms of several seeds to a table, and to what of the paper's ordering they show.

The criteria were written down before any of these runs: R(arm) = (accuracy - floor) / (accuracy of LaCo@1 - floor), the
floor being the accuracy with shuffled pages; reproduced is, over at least three seeds whose full-token reader reads at
least 90 % of the letters, R(LaCo@1/4) of at least 0.7, every baseline at most half of it, each gap above three standard
errors, and @1 >= 1/2 >= 1/4 > 1/6, 1/12.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, sqrt
from statistics import mean, stdev

from .arms import ARMS, COMPRESSORS, DEPTHS
from .pretraining import READS

SEEDS, LEAST_RETAINED, MOST_OF_BASELINES, STANDARD_ERRORS = 3, 0.7, 0.5, 3.0
_REFERENCE, _LACO = "laco@1", "laco@1/4"


@dataclass(frozen=True)
class Row:
    """One arm over the seeds; standard errors are None for a single seed."""

    name: str
    group: str
    seeds: int
    accuracy: float
    accuracy_error: float | None
    after_stage_1: float
    retained: float | None
    retained_error: float | None


def rows_of(results: Mapping[int, Mapping[str, dict]]) -> list[Row]:
    """One row for each arm that any seed has finished.

    Args:
        results: seed → arm's name → its record (``accuracy``, ``shuffled``, ``curve``).
    """
    rows = []
    for arm in ARMS:
        seeds = [seed for seed in sorted(results) if arm.name in results[seed]]
        if seeds:
            records = [results[seed][arm.name] for seed in seeds]
            retained = [r for seed in seeds if (r := retained_share(results[seed], arm.name)) is not None]
            accuracies = [record["accuracy"] for record in records]
            first = [[point["accuracy"] for point in r["curve"] if point["stage"] == "1"][-1] for r in records]
            rows.append(
                Row(
                    arm.name,
                    arm.group,
                    len(seeds),
                    mean(accuracies),
                    standard_error(accuracies),
                    mean(first),
                    mean(retained) if retained else None,
                    standard_error(retained),
                )
            )
    return rows


def retained_share(seed: Mapping[str, dict], name: str) -> float | None:
    """R of one arm in one seed; None without LaCo@1 to compare with."""
    if _REFERENCE not in seed:
        return None
    # Of the verdict's arms alone: arms that are run on demand must not move it.
    floor = mean(seed[arm.name]["shuffled"] for arm in ARMS if arm.name in seed and not arm.exploratory)
    return (seed[name]["accuracy"] - floor) / (seed[_REFERENCE]["accuracy"] - floor)


def standard_error(values: Sequence[float]) -> float | None:
    """Of the mean."""
    return stdev(values) / sqrt(len(values)) if len(values) > 1 else None


def verdict(results: Mapping[int, Mapping[str, dict]], readers: Mapping[int, float]) -> list[tuple[str, bool | None]]:
    """Each criterion with what was found: True, False, or None where arms or seeds are missing.

    Args:
        results: as ``rows_of``.
        readers: seed → share of the letters that its full-token reader reads.
    """
    said: list[tuple[str, bool | None]] = []
    seeds = [seed for seed in sorted(results) if {_REFERENCE, _LACO} <= set(results[seed])]
    enough = len(seeds) >= SEEDS
    retained = {
        arm.name: [retained_share(results[seed], arm.name) for seed in seeds]
        for arm in ARMS
        if seeds and all(arm.name in results[seed] for seed in seeds)
    }
    laco = mean(retained[_LACO]) if _LACO in retained else None
    said.append((f"R({_LACO}) is at least {LEAST_RETAINED}", None if laco is None else laco >= LEAST_RETAINED))
    for name in (f"{method}@1/4" for method in COMPRESSORS[1:]):
        if laco is None or name not in retained:
            said += [(f"R({name}) is at most half of LaCo's", None)]
            continue
        said.append((f"R({name}) is at most half of LaCo's", mean(retained[name]) <= MOST_OF_BASELINES * laco))
        gaps = [a - b for a, b in zip(retained[_LACO], retained[name])]
        error = standard_error(gaps)
        above = mean(gaps) > STANDARD_ERRORS * (error if error is not None else inf)
        said.append((f"LaCo@1/4 is above {name} by more than three standard errors", above if enough else None))
    said.append((f"the order of the depths is {' >= '.join(DEPTHS[:3])} > 1/6, 1/12", _depths_ordered(retained)))
    said.append((f"every full-token reader reads at least {READS:.0%}", all(readers[s] >= READS for s in results)))
    said.append((f"at least {SEEDS} seeds were run", enough))
    return said


def _depths_ordered(retained: Mapping[str, Sequence[float]]) -> bool | None:
    names = [f"laco@{depth}" for depth in DEPTHS]
    if not all(name in retained for name in names):
        return None
    whole, half, quarter, *later = (mean(retained[name]) for name in names)
    return whole >= half >= quarter > max(later)
