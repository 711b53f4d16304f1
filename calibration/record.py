"""What the manifest says of a calibration: ``vision.calibration``.

``linears`` holds every number that another program needs to compute as the graph does (``laco-train --fake-quant``):
module paths are PyTorch's.
"""

from __future__ import annotations

from dataclasses import asdict

from laco_export.machine import cpu_title
from laco_export.number_formats import scaling

from .context import Run
from .graph.linear_layers import Block
from .selection import Settling
from .sensitivity import Weighing
from .statistics.records import STATISTICS_NAME


def calibration_record(run: Run, weighed: Weighing, settled: Settling) -> dict:
    """The record of a finished run."""
    activations, seen = run.number_format.activations, weighed.seen
    times, error = settled.times, settled.error
    return {
        "recipe": run.recipe.name,
        "number_format": run.options.number_format,
        "activations": activations,
        "weights": run.number_format.weights,
        "half_scales": run.recipe.half_scales,
        "attention": run.options.attention,
        "method": run.options.method,
        "max_drop": run.options.max_drop,
        "base": run.recipe.base,
        "source_graph_sha256": seen.digest,
        "statistics": None if activations is None else STATISTICS_NAME,
        "statistics_sha256": seen.statistics.digest(),
        "pictures": len(seen.statistics.pictures),
        "broken_pictures": len(run.pictures.broken),
        "duplicate_pictures": run.pictures.duplicates,
        "judged_on": [picture.sha256 for picture in run.division.judging],
        "judged": asdict(error),
        "points": error.points,
        "answers": None if settled.answers is None else asdict(settled.answers),
        "smoothing_equal_in_fp32": None if seen.smoothing_error is None else asdict(seen.smoothing_error),
        "time": "unmeasured" if times is None else "measured",
        "device": None if times is None else cpu_title(),
        "milliseconds": None if times is None else {name: series.to_dict() for name, series in times.items()},
        "blocks": [_block(block, weighed, settled) for block in seen.blocks],
        "linears": _linears(run, weighed, settled),
    }


def _block(block: Block, weighed: Weighing, settled: Settling) -> dict:
    times = None if weighed.times is None else weighed.times[block.name]
    error, choice = weighed.errors[block.name], settled.choice
    return {
        "name": block.name,
        "region": block.region,
        "eight_bit": block.name in choice.blocks,
        "reason": choice.reasons.get(block.name),
        **asdict(error),
        "points": error.points,
        "base_ms": None if times is None else times.base,
        "eight_bit_ms": None if times is None else times.eight_bit,
        "smoothing": weighed.seen.strengths.get(block.name, 0.0),
    }


def _linears(run: Run, weighed: Weighing, settled: Settling) -> list[dict]:
    """The quantised Linear layers: where each is, and how its input becomes numbers (nothing for weights alone)."""
    kind, found = run.number_format.activations, []
    for block in weighed.seen.blocks:
        for linear in block.linears if block.name in settled.choice.blocks else ():
            entry = {"module": linear.node.rpartition("/")[0], "input": linear.source}
            if kind is not None:
                how = scaling(kind, *weighed.ranges[linear.source], half_scales=run.recipe.half_scales)
                entry |= {"scale": float(how.scale), "zero_point": how.zero_point}
            found.append(entry)
    return found
