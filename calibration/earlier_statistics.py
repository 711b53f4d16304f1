"""What is known before a picture is observed: an interrupted run's statistics, or other calibrations'."""

from __future__ import annotations

from pathlib import Path

import onnx_graphsurgeon as gs

from laco_export.console import say

from .errors import CalibrationError
from .options import CalibrationOptions
from .statistics.observer import empty_statistics
from .statistics.records import Statistics, merge


def earlier_statistics(options: CalibrationOptions, graph: gs.Graph, digest: str) -> Statistics | None:
    """The statistics to go on with (``--resume``, ``--statistics``); None where there are none.

    Args:
        graph: the FP32 graph, for the tensors that it must have statistics of.
        digest: of the bundle's graph, which the statistics must be of.

    Raises:
        CalibrationError: an interrupted run's are there and neither ``--resume`` nor ``--force`` was given; they are of
            another graph or smoothing; they lack a tensor.
    """
    statistics: Statistics | None = None
    progress = options.progress_file
    if options.resume and not progress.exists():
        say(f"--resume: there are no statistics of an interrupted run in '{progress}'")
    if progress.exists() and options.resume:
        statistics = load_statistics(progress, digest)
        _require_begun_so(options, statistics, digest)
    elif progress.exists() and not options.force:
        raise CalibrationError(
            "an earlier calibration to this output did not end",
            given=f"its statistics are in '{progress}'",
            allowed="--resume to go on with them, or --force to start over",
        )
    elif options.statistics:
        statistics = merge([load_statistics(path, digest) for path in options.statistics])
    if statistics is not None:
        _require_usable(options, statistics, graph)
    return statistics


def load_statistics(path: Path, digest: str) -> Statistics:
    """The statistics in ``path``.

    Raises:
        CalibrationError: there are none, or they are of another graph than the one with ``digest``.
    """
    statistics = Statistics.load(path)
    statistics.require_same(digest, path)
    return statistics


def _require_usable(options: CalibrationOptions, statistics: Statistics, graph: gs.Graph) -> None:
    if statistics.scales and not options.smoothing:
        raise CalibrationError(
            "the statistics were taken with smoothing, and hold for the smoothed graph alone",
            given="--no-smoothing",
            todo="leave out --no-smoothing, or observe the pictures anew",
        )
    wanted = empty_statistics(graph, statistics.graph, attention=options.attention)
    if not wanted.tensors.keys() <= statistics.tensors.keys():
        raise CalibrationError(
            "the statistics do not have every tensor that is to be quantised",
            todo="take them with --attention, or calibrate without it",
        )


def _require_begun_so(options: CalibrationOptions, interrupted: Statistics, digest: str) -> None:
    """Refuse to resume with other statistics or another smoothing than the interrupted run was begun with."""
    other = []
    for path in options.statistics:
        part = load_statistics(path, digest)
        if part.smoothing != interrupted.smoothing or set(part.pictures) - set(interrupted.pictures):
            other.append(f"--statistics {path}")
    smoothing = options.smoothing_of
    if smoothing is not None and load_statistics(smoothing, digest).smoothing != interrupted.smoothing:
        other.append(f"--smoothing-of {smoothing}")
    if other:
        raise CalibrationError(
            f"the interrupted run, whose statistics are in '{options.progress_file}', was not begun so",
            given=", ".join(other),
            todo="resume it without them, or start over with --force",
        )
