"""A path of two merges in AIMv2-L/336: its FLOPs and its encode time beside those of one merge.

    python benchmarks/two_merges.py make --folder DIR      # the graphs of @1, 1/2 and 1/4+3/4: 4 GB
    python benchmarks/two_merges.py time --folder DIR      # the path and each of the others in turn
    python benchmarks/two_merges.py count                  # FLOPs by torch's counter, on shapes alone

Random weights of the published size, ratio 2 for each merge: 576 tokens become 144 at 1/4 and 36 at 3/4. ONNX Runtime's
CPU provider, FP32, batch 1. A ratio of times is the median over the rounds in which neither stalled; that of CPU times,
which other processes on the machine disturb less, stands beside it. ``time`` ends with an error where a ratio of times
is more than 5 % from the ratio of FLOPs, ``count`` where a ratio of FLOPs is more than 1 % from the counter's.
"""

from __future__ import annotations

import argparse
import gc
import sys
from functools import partial
from pathlib import Path

import graph_timing
import numpy as np
import torch
from encode_by_depth import graph_path, make
from graph_timing import (
    graphs_measured_on,
    median_ratio,
    merge_results,
    open_session,
    random_pixels,
    summary,
    time_in_turn,
)
from published_towers import pixel_shape, published_config, published_tower
from torch.utils.flop_counter import FlopCounterMode

from laco_export.models.flops import vision_flops
from laco_export.timing import Series

RESULT = "two_merges"
PATH, OTHERS = "1/4+3/4", ("1", "1/2")
TIME_MARGIN, COUNT_MARGIN = 0.05, 0.01


def flops(depth: str) -> int:
    return vision_flops(published_config("aimv2", depth)).total


def counted_by_torch(depth: str) -> int:
    """Of the tower on shapes alone; attention as two products, which the counter sees."""
    with torch.device("meta"):
        tower = published_tower("aimv2", depth)
        tower.vision_model.encoder.set_attn_implementation("eager")
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            tower(torch.empty(pixel_shape(tower)))
    return counter.get_total_flops()


def count() -> bool:
    """Write and print the path's FLOPs over each other's; whether all are as counted."""
    counts = {depth: {"arithmetic": flops(depth), "counted": counted_by_torch(depth)} for depth in (*OTHERS, PATH)}
    ratios = {
        other: {kind: round(counts[PATH][kind] / counts[other][kind], 4) for kind in ("arithmetic", "counted")}
        for other in OTHERS
    }
    merge_results(RESULT, flops=counts, flop_ratios=ratios)
    for other, ratio in ratios.items():
        print(f"@{PATH} over @{other}: {ratio['arithmetic']:.4f} of the FLOPs, {ratio['counted']:.4f} by the counter")
    return all(abs(ratio["arithmetic"] / ratio["counted"] - 1) <= COUNT_MARGIN for ratio in ratios.values())


def measure(folder: Path, rounds: int) -> bool:
    """Write and print the path's time over each other's; whether all are as near to the FLOPs as they should be."""
    session, within = open_session(graph_path(folder, PATH)), []
    pixels = random_pixels(session)
    for other in OTHERS:
        sessions = {PATH: session, other: open_session(graph_path(folder, other))}
        runs = {depth: partial(opened.run, None, pixels) for depth, opened in sessions.items()}
        series = time_in_turn(runs, rounds=rounds)
        ratio, by_flops = median_ratio(series[PATH], series[other]), flops(PATH) / flops(other)
        times = {
            "time_ratio": round(ratio, 4),
            "cpu_time_ratio": round(_cpu_time_ratio(series[PATH], series[other]), 4),
            "flop_ratio": round(by_flops, 4),
            "above_flops": round(ratio / by_flops - 1, 4),
            "path": summary(series[PATH]),
            "other": summary(series[other]),
        }
        merge_results(RESULT, **graphs_measured_on(), times={f"{PATH} over {other}": times})
        print(
            f"@{PATH} over @{other}: time {ratio:.3f}, CPU time {times['cpu_time_ratio']:.3f}, FLOPs {by_flops:.3f}: "
            f"{ratio / by_flops - 1:+.1%}",
            flush=True,
        )
        within.append(abs(ratio / by_flops - 1) <= TIME_MARGIN)
        del sessions, runs
        gc.collect()
    return all(within)


def _cpu_time_ratio(series: Series, base: Series) -> float:
    """The median over all rounds."""
    cpu_ms = [[run.ms * run.cpu_ratio for run in subject.samples] for subject in (series, base)]
    return float(np.median(np.divide(*cpu_ms)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=("make", "time", "count"))
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=graph_timing.THREADS)
    arguments = parser.parse_args()
    graph_timing.THREADS = arguments.threads
    if arguments.step != "count" and arguments.folder is None:
        parser.error("--folder is needed")
    if arguments.step == "make":
        make(arguments.folder, (*OTHERS, PATH))
    elif not (count() if arguments.step == "count" else measure(arguments.folder, arguments.rounds)):
        sys.exit("out of the margin")


if __name__ == "__main__":
    main()
