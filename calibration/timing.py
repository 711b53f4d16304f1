"""Times that can be compared: what is compared runs in turn, in short bursts, on ONNX Runtime.

The first run of a burst is thrown away. It warms the caches, and it outlasts the threads of the session before it,
which go on spinning for a while and would otherwise take time from whoever runs next.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs

from laco_engines.threads import default_threads

BURST = 3


@dataclass(frozen=True)
class Timed:
    """Wall-clock milliseconds of one subject.

    Attributes:
        milliseconds: median.
        spread: the quartiles' distance over the median.
        cpu_over_wall: CPU time over wall time; well below the thread count means that the machine was busy elsewhere.
    """

    milliseconds: float
    spread: float
    cpu_over_wall: float


def interleaved(subjects: Mapping[str, Callable[[], object]], *, bursts: int) -> dict[str, Timed]:
    """Run each subject ``bursts`` times :data:`BURST` times, in turn; medians without each burst's first run."""
    times: dict[str, list[float]] = {name: [] for name in subjects}
    shares: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(bursts):
        for name, run in subjects.items():
            for index in range(BURST + 1):
                start, cpu = time.perf_counter(), time.process_time()
                run()
                wall = time.perf_counter() - start
                if index:
                    times[name].append(1000 * wall)
                    shares[name].append((time.process_time() - cpu) / wall)
    found = {}
    for name, values in times.items():
        low, median, high = statistics.quantiles(values, n=4)
        found[name] = Timed(median, (high - low) / median, statistics.median(shares[name]))
    return found


def open_session(model: Path | bytes, threads: int | None = None):
    """An ONNX Runtime session on the CPU provider, as the engines open it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads or default_threads(), 3
    source = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def runner_of(session) -> Callable[[], object]:
    """A call of ``session`` on random inputs of its static shapes."""
    random = np.random.default_rng(0)
    feeds = {one.name: random.standard_normal(one.shape).astype(np.float32) for one in session.get_inputs()}
    return lambda: session.run(None, feeds)


def serialized(graph: gs.Graph, ir_version: int) -> bytes:
    """A small graph as ONNX bytes, weights inside."""
    proto = gs.export_onnx(graph)
    proto.ir_version = ir_version
    return proto.SerializeToString()


def device() -> str:
    """This machine's processor, for records: ``2 x AMD EPYC …``."""
    model = "unknown CPU"
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{default_threads()} threads of {os.uname().machine} {model}"
