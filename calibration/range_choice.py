"""Ranges: which method cuts them for each block, by trying.

A method sees a histogram and nothing of what a value is for. With pretrained weights a few tokens hold values that
stand far out and that every later block reads; they are few, so that the least squared error over the histogram cuts
them off. Elsewhere it is right to. So each block is judged under each candidate, alone, at the projector.
"""

from __future__ import annotations

from .blocks.block_errors import BlockJudge
from .context import CalibrationContext
from .graph.partial_runner import SegmentRunner
from .observation import Observation, SmoothedGraph
from .sensitivity import swap_of
from .statistics.records import Statistics
from .statistics.thresholds import candidates_of


def choose_ranges(context: CalibrationContext, smoothed: SmoothedGraph, statistics: Statistics) -> Observation:
    """The ranges by ``--method``; where that is ``auto``, for each block by the candidate that costs least points."""
    if context.weights_only:
        return Observation(statistics, {}, {})
    names, candidates = smoothed.block_names, candidates_of(context.options.method)
    methods = dict.fromkeys(names, candidates[0])
    if len(candidates) > 1:
        tiles, runner, points = context.division.tiles, SegmentRunner(smoothed.graph), {}
        with context.steps.step("choose the ranges", len(candidates) * len(names) * len(tiles)) as advance:
            for method in candidates:
                judge = BlockJudge(runner, swap_of(context, smoothed, statistics.ranges(method)), tiles)
                points[method] = {name: error.points for name, error in judge.each(names, advance).items()}
        methods = {name: min(candidates, key=lambda method: points[method][name]) for name in names}
    return Observation(statistics, methods, statistics.ranges(methods))
