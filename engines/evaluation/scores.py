"""A row of the paper's columns from what lmms-eval wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from laco_export.errors import LacoError

from .benchmarks import Benchmark, BenchmarkGroup
from .paper_tables import PaperScore


def scores_of(group: BenchmarkGroup, results_file: Path) -> dict[str, list[float | None]]:
    """Per cent: each column's benchmarks; None where no question of one was asked.

    Args:
        results_file: ``…_results.json``; the samples lie beside it.

    Raises:
        LacoError: the file holds no score of a benchmark whose task was run.
    """
    results = json.loads(results_file.read_text(encoding="utf-8"))["results"]
    mixed = {b.task for column in group.columns for b in column.benchmarks if b.sub_tasks}
    samples = {task: _samples(results_file, task) for task in mixed if task in results}
    return {
        column.name: [_score(benchmark, results, samples) for benchmark in column.benchmarks]
        for column in group.columns
    }


def average(columns: Sequence[Sequence[float | None]]) -> float | None:
    """The mean of the columns, each the mean of its benchmarks, as the paper's averages are; None where one is
    missing."""
    values = [value for column in columns for value in column]
    return None if None in values or not values else fmean(fmean(column) for column in columns)


def cell_text(score: PaperScore | Sequence[float | None]) -> str:
    """A cell as the paper prints it: ``63.8/65.0``, ``-`` of an empty one."""
    parts = score if isinstance(score, (tuple, list)) else [score]
    return "/".join("-" if part is None else f"{part:.1f}" for part in parts)


def _score(benchmark: Benchmark, results: Mapping, samples: Mapping[str, list[dict]]) -> float | None:
    if benchmark.task not in results:
        return None
    if benchmark.sub_tasks:
        entries = [sample[benchmark.metric] for sample in samples[benchmark.task]]
        values = [entry["score"] for entry in entries if entry["sub_task"] in benchmark.sub_tasks]
        return 100 * fmean(values) / benchmark.full if values else None
    return _of_filters(benchmark, results[benchmark.task])


def _of_filters(benchmark: Benchmark, entry: Mapping) -> float | None:
    """The metric's value: ``exact_match,flexible-extract``, whatever filter the task names."""
    values = [
        value
        for name, value in entry.items()
        if name.split(",")[0] == benchmark.metric and "," in name and isinstance(value, (int, float))
    ]
    if len(values) > 1:
        raise LacoError(
            f"lmms-eval gave several scores of {benchmark.task}",
            given=", ".join(name for name in entry if name.startswith(f"{benchmark.metric},")),
            allowed="one",
        )
    return 100 * values[0] / benchmark.full if values else None


def _samples(results_file: Path, task: str) -> list[dict]:
    path = results_file.with_name(results_file.name.replace("_results.json", f"_samples_{task}.jsonl"))
    if not path.is_file():
        raise LacoError(f"lmms-eval's samples of {task} are missing", given=path)
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
