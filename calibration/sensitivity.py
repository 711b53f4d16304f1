"""Sensitivity: what each block costs in accuracy and gains in time where it alone is in few bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from laco_engines.comparison.golden_check import pixel_values
from laco_export.conversation import DEFAULT_QUESTION
from laco_export.golden import read_golden
from laco_export.number_formats import NumberFormat
from laco_export.onnx_session import open_session
from laco_export.quiet import quiet

from . import answers
from .blocks.block_errors import BlockJudge, FeatureError
from .blocks.block_times import measure_blocks
from .blocks.choice import BlockTime
from .blocks.fake_quant import Swap
from .context import CalibrationContext
from .graph.linear_layers import block_of
from .graph.partial_runner import SegmentRunner
from .observation import Observation, SmoothedGraph
from .source.picture_set import questions_about


@dataclass(frozen=True)
class Sensitivity:
    """Every block, judged alone.

    Attributes:
        fp32_features: FP32's ``image_features`` of each judging picture, by the bundle's own file.
        errors: block → its error where it alone is in few bits, in the order of the computation.
        times: block → its milliseconds; None where the target's device is not here, or weights alone are rounded.
        judge: measures any set of blocks together, on the golden pictures too.
    """

    fp32_features: list[np.ndarray]
    errors: Mapping[str, FeatureError]
    times: Mapping[str, BlockTime] | None
    judge: BlockJudge


def measure_sensitivity(context: CalibrationContext, smoothed: SmoothedGraph, observation: Observation) -> Sensitivity:
    """Swap every block for its few-bit form alone; judge it at the projector and, on a CPU, time it.

    Raises:
        BundleError, ProviderMissingError: the language model, which judges too, cannot be loaded.
    """
    tiles, names = context.division.tiles, smoothed.block_names
    fp32_features = _fp32_features(context)
    swap = swap_of(context, smoothed, observation.ranges)
    answer_share = _answer_share(context, fp32_features)
    judge = BlockJudge(SegmentRunner(smoothed.graph), swap, tiles, answer_share, also=_golden_pixels(context))
    with context.steps.step("measure each block's sensitivity", len(names) * len(tiles)) as advance:
        errors = judge.each(names, advance)
    return Sensitivity(fp32_features, errors, _block_times(context, smoothed, observation), judge)


def _fp32_features(context: CalibrationContext) -> list[np.ndarray]:
    with context.steps.step("run the FP32 graph on the judging pictures"):
        session = open_session(context.base_graph)
        name = session.get_inputs()[0].name
        return [session.run(None, {name: tile})[0] for tile in context.division.tiles]


def swap_of(
    context: CalibrationContext,
    smoothed: SmoothedGraph,
    ranges: Mapping[str, tuple[float, float]],
    number_format: NumberFormat | None = None,
) -> Swap:
    """What exchanges any blocks of the graph for their few-bit form, with these ``ranges`` of Linear inputs.

    Args:
        number_format: default: the context's.
    """
    placement = context.placement(smoothed.block_names, ranges)
    blocks = {name: block_of(name) for name in placement.node_names(smoothed.graph)}
    return Swap(number_format or context.number_format, ranges, blocks, half_scales=context.form.half_scales)


def twin_judge(context: CalibrationContext, smoothed: SmoothedGraph, observation: Observation) -> BlockJudge:
    """What measures any set of blocks of the twin together."""
    swap = swap_of(context, smoothed, observation.ranges, context.options.twin_format)
    return BlockJudge(SegmentRunner(smoothed.graph), swap, context.division.tiles, also=_golden_pixels(context))


def _golden_pixels(context: CalibrationContext) -> list[np.ndarray]:
    """``pixel_values [1, 3, H, W]`` of each golden picture."""
    return [pixels[None] for pixels in pixel_values(context.bundle, read_golden(context.bundle).pictures)]


def _answer_share(
    context: CalibrationContext, fp32_features: list[np.ndarray]
) -> Callable[[int, np.ndarray], float] | None:
    """What the language model would still say, as :class:`~.blocks.block_errors.BlockJudge` takes it; None where there
    is none."""
    if context.bundle.manifest.decoder is None:
        return None
    judging = context.division.judging
    questions = questions_about(context.picture_set, judging, DEFAULT_QUESTION)
    asked = [(picture.path, question) for picture, question in zip(judging, questions)]
    with context.steps.step("answer on FP32's features"):
        return answers.AnswerJudge.on_features(context.bundle, asked, fp32_features).share_kept


def _block_times(
    context: CalibrationContext, smoothed: SmoothedGraph, observation: Observation
) -> dict[str, BlockTime] | None:
    if context.half or context.weights_only:
        return None
    with context.steps.step("time each block", len(smoothed.blocks)) as advance, quiet():
        return measure_blocks(
            smoothed.graph,
            smoothed.blocks,
            context.form,
            replace(context.placement((), observation.ranges), number_format=context.format_here),
            exact_products=context.format_here != context.form.portable,
            ir_version=context.bundle.manifest.vision.ir_version,
            advance=advance,
        )
