"""What the manifest says of a calibration: ``vision.calibration``.

``linears`` holds every number that another program needs to compute as the graph does (``laco-train --fake-quant``):
module paths are PyTorch's.
"""

from __future__ import annotations

from dataclasses import asdict

from laco_export.machine import cpu_title
from laco_export.number_formats import scaling

from .context import CalibrationContext
from .graph.linear_layers import Block
from .observation import Observation, SmoothedGraph
from .selection import Selection
from .sensitivity import Sensitivity
from .statistics.records import STATISTICS_NAME
from .verification import points_of, tolerance_of


def calibration_record(
    context: CalibrationContext,
    smoothed: SmoothedGraph,
    observation: Observation,
    sensitivity: Sensitivity,
    selection: Selection,
) -> dict:
    """The record of a finished calibration."""
    options, activations, statistics = context.options, context.number_format.activations, observation.statistics
    times, error, smoothing_error = selection.times, selection.error, smoothed.error
    return {
        "target": options.target,
        "number_format": options.number_format,
        "activations": activations,
        "weights": context.number_format.weights,
        "half_scales": context.form.half_scales,
        "attention": options.attention,
        "method": options.method,
        "max_drop": options.max_drop,
        "base": context.form.base,
        "source_graph_sha256": smoothed.digest,
        "statistics": None if context.weights_only else STATISTICS_NAME,
        "statistics_sha256": statistics.digest(),
        "pictures": len(statistics.pictures),
        "broken_pictures": len(context.picture_set.broken),
        "duplicate_pictures": context.picture_set.duplicates,
        "flat_pictures": len(context.picture_set.flat),
        "copied_pictures": len(context.picture_set.copies),
        "judged_on": [picture.sha256 for picture in context.division.judging],
        "held_out": len(context.unseen_judges(statistics.pictures)),
        "judged": asdict(error),
        "points": error.points,
        "golden": _golden(context, selection),
        "twin": _twin(selection),
        "answers": None if selection.answers is None else asdict(selection.answers),
        "smoothing_equal_in_fp32": None if smoothing_error is None else asdict(smoothing_error),
        "time": "unmeasured" if times is None else "measured",
        "device": None if times is None else cpu_title(),
        "milliseconds": None if times is None else {name: series.to_dict() for name, series in times.items()},
        "blocks": [_block(block, smoothed, observation, sensitivity, selection) for block in smoothed.blocks],
        "linears": _linears(context, smoothed, observation, selection),
    }


def _golden(context: CalibrationContext, selection: Selection) -> dict:
    """The file on the golden pictures."""
    return {
        "pictures": context.division.golden,
        "calibrated_on": len(context.golden_seen),
        "points": selection.golden.points,
        "share_of_tolerance": selection.golden.share_used(tolerance_of(context.options.max_drop)),
    }


def _twin(selection: Selection) -> dict | None:
    """The graph with weights of seven bits, where there is one."""
    if selection.twin is None:
        return None
    golden_points = max(points_of(features) for features in selection.twin.golden.values())
    blocks, points = len(selection.twin.blocks), selection.twin.error.points
    return {"blocks": blocks, "points": points, "golden_points": golden_points}


def _block(
    block: Block, smoothed: SmoothedGraph, observation: Observation, sensitivity: Sensitivity, selection: Selection
) -> dict:
    times = None if sensitivity.times is None else sensitivity.times[block.name]
    error, choice = sensitivity.errors[block.name], selection.choice
    return {
        "name": block.name,
        "region": block.region,
        "eight_bit": block.name in choice.blocks,
        "reason": choice.reasons.get(block.name),
        **asdict(error),
        "points": error.points,
        "base_ms": None if times is None else times.base,
        "eight_bit_ms": None if times is None else times.eight_bit,
        "smoothing": smoothed.strengths.get(block.name, 0.0),
        "method": observation.methods.get(block.name),
    }


def _linears(
    context: CalibrationContext, smoothed: SmoothedGraph, observation: Observation, selection: Selection
) -> list[dict]:
    """The quantised Linear layers: where each is, and how its input becomes numbers (nothing for weights alone)."""
    kind, linears = context.number_format.activations, []
    for block in smoothed.blocks:
        for linear in block.linears if block.name in selection.choice.blocks else ():
            record = {"module": linear.node.rpartition("/")[0], "input": linear.source}
            if kind is not None:
                bounds = observation.ranges[linear.source]
                input_scaling = scaling(kind, *bounds, half_scales=context.form.half_scales)
                record |= {"scale": float(input_scaling.scale), "zero_point": input_scaling.zero_point}
            linears.append(record)
    return linears
