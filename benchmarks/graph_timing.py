"""Sessions of several graphs in one process, and their times in turn: for the benchmarks that compare graphs.

All sessions of ONNX Runtime share one thread pool, so that none spins beside another's run, and between two runs the
process sleeps until such spinning has ended.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime
from measured_on import device_title

from laco_export import onnx_session
from laco_export.machine import library_versions
from laco_export.timing import Series, time_run

THREADS = 2
WARM_UP = 2  # runs of each before the first round
SETTLE_S = 0.02
"""ONNX Runtime's threads spin for a few milliseconds after a run."""

RESULTS = Path(__file__).resolve().parent / "results"


@cache
def _start_thread_pool() -> None:
    """Once a process: ONNX Runtime refuses to change it."""
    onnxruntime.set_global_thread_pool_sizes(THREADS, 1)


def open_session(graph: Path | bytes, *, profile: Path | None = None) -> onnxruntime.InferenceSession:
    """A session on the CPU provider; ``profile`` is the prefix of a trace of every node."""
    options = onnx_session.session_options()  # may open a session of its own, which then has threads of its own
    _start_thread_pool()
    options.use_per_session_threads = False
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    model = graph if isinstance(graph, bytes) else str(graph)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def random_pixels(session: onnxruntime.InferenceSession) -> dict[str, np.ndarray]:
    """Feeds for the only input: standard normal, the same on every call."""
    (pixels,) = session.get_inputs()
    return {pixels.name: np.random.default_rng(0).standard_normal(pixels.shape, np.float32)}


def time_in_turn(runs: Mapping[str, Callable[[], object]], *, rounds: int) -> dict[str, Series]:
    """Time ``runs`` in turn, in another order each round."""
    series, order = {name: Series(on_cpu=True) for name in runs}, np.random.default_rng(0)
    for run in runs.values():
        for _ in range(WARM_UP):
            run()
    for _ in range(rounds):
        for name in order.permutation(list(runs)):
            time.sleep(SETTLE_S)
            series[name].samples.append(time_run(runs[name]))
    return series


def summary(series: Series) -> dict:
    """For the results: the median and the spread of what was kept, and the raw samples."""
    return {
        "median_ms": round(series.quantile(0.5), 1),
        "fastest_ms": round(series.quantile(0.0), 1),
        "cpu_over_wall": round(series.cpu_ratio, 3),
        "stalled": series.rejected,
        "samples_ms": [round(sample.ms, 1) for sample in series.samples],
        "samples_cpu_over_wall": [round(sample.cpu_ratio, 2) for sample in series.samples],
    }


def median_ratio(series: Series, base: Series) -> float:
    """The median over rounds of the ratio to ``base`` in the same round; rounds in which either stalled are out."""
    rounds = zip(series.samples, base.samples, series.is_accepted, base.is_accepted)
    return float(np.median([sample.ms / reference.ms for sample, reference, *steady in rounds if all(steady)]))


def graphs_measured_on(*more: str) -> dict:
    """What graphs were timed on; ``more`` names libraries besides those of every such benchmark."""
    libraries = ("onnxruntime", "torch", "transformers", "onnx", "numpy", *more)
    return {"device": device_title(), "threads": THREADS, "versions": library_versions(libraries)}


def merge_results(name: str, **parts: dict) -> None:
    """Put ``parts`` into ``results/<name>.json``, beside what other steps have put there."""
    path = RESULTS / f"{name}.json"
    document = json.loads(path.read_text()) if path.exists() else {}
    for part, entries in parts.items():
        if isinstance(document.get(part), dict):
            entries = {**document[part], **entries}
        document[part] = entries
    path.write_text(json.dumps(document, indent=1) + "\n")
