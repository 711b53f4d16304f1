"""What the manifest says of a calibration: ``vision.calibration``.

``linears`` holds every number that another program needs to compute as the graph does (``laco-train --fake-quant``):
module paths are PyTorch's.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from .block_errors import Error
from .linears import Block
from .number_formats import scaling
from .statistics import STATISTICS_NAME
from .timing import device

if TYPE_CHECKING:
    from .pipeline import Calibration


def calibration_record(run: Calibration, error: Error) -> dict:
    """The record of a finished run.

    Args:
        error: of the shipped file on the judging pictures.
    """
    activations = run.number_format.activations
    times = run.whole_times
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
        "source_graph_sha256": run.seen.digest,
        "statistics": None if activations is None else STATISTICS_NAME,
        "statistics_sha256": run.statistics.digest(),
        "pictures": len(run.statistics.pictures),
        "broken_pictures": len(run.pictures.broken),
        "duplicate_pictures": run.pictures.duplicates,
        "judged_on": [picture.sha256 for picture in run.division.judging],
        "judged": asdict(error),
        "points": error.points,
        "answers": None if run.answers is None else asdict(run.answers),
        "smoothing_equal_in_fp32": None if run.seen.smoothing_error is None else asdict(run.seen.smoothing_error),
        "time": "unmeasured" if times is None else "measured",
        "device": None if times is None else device(),
        "milliseconds": None if times is None else {name: asdict(one) for name, one in times.items()},
        "blocks": [_block(run, block) for block in run.blocks],
        "linears": _linears(run),
    }


def _block(run: Calibration, block: Block) -> dict:
    times = None if run.times is None else run.times[block.name]
    return {
        "name": block.name,
        "region": block.region,
        "eight_bit": block.name in run.choice.blocks,
        "reason": run.choice.reasons.get(block.name),
        **asdict(run.errors[block.name]),
        "points": run.errors[block.name].points,
        "base_ms": None if times is None else times.base,
        "eight_bit_ms": None if times is None else times.eight_bit,
        "smoothing": run.seen.strengths.get(block.name, 0.0),
    }


def _linears(run: Calibration) -> list[dict]:
    """The quantised Linear layers: where each is, and how its input becomes numbers (nothing for weights alone)."""
    kind, found = run.number_format.activations, []
    for block in run.blocks:
        for linear in block.linears if block.name in run.choice.blocks else ():
            entry = {"module": linear.node.rpartition("/")[0], "input": linear.source}
            if kind is not None:
                how = scaling(kind, *run.ranges[linear.source], half_scales=run.recipe.half_scales)
                entry |= {"scale": float(how.scale), "zero_point": how.zero_point}
            found.append(entry)
    return found
