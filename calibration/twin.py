"""The twin: the graph beside an eight-bit one, for processors whose product of uint8 and int8 saturates.

Its weights have seven bits and round twice as coarsely. Where the same blocks are over the budget with them, fewer are
chosen for the twin. Its products are exact on every processor, so that it is judged here whatever this one is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from laco_export.agreement import Agreement
from laco_export.bundle import Vision, graphs_from

from .blocks.block_errors import FeatureError
from .blocks.choice import choose_blocks
from .context import CalibrationContext
from .observation import Observation, SmoothedGraph
from .quantizing import Placement
from .quantizing.quantized_graphs import QuantizedGraphs
from .sensitivity import Sensitivity, twin_judge
from .verification import check_numbers, golden_features, judge_graph, tolerance_of

_CHOICES = 3
"""Times that blocks are chosen for the twin alone before there is none."""


@dataclass(frozen=True)
class TwinJudgement:
    """A twin that was written.

    Attributes:
        blocks: in eight bits by seven.
        error: on the judging pictures.
        golden: golden picture → its features.
        share_used: of what both may lose.
    """

    blocks: tuple[str, ...]
    error: FeatureError
    golden: dict[str, Agreement]
    share_used: float


def twin_of(context: CalibrationContext, placement: Placement) -> Placement | None:
    """The twin of ``placement`` with the same blocks; None where the target needs none."""
    number_format = context.options.twin_format
    return None if number_format is None else replace(placement, number_format=number_format)


def fit_twin(
    context: CalibrationContext,
    smoothed: SmoothedGraph,
    observation: Observation,
    sensitivity: Sensitivity,
    graphs: QuantizedGraphs,
    placement: Placement,
    vision: Vision,
) -> tuple[Vision, TwinJudgement | None]:
    """Judge the twin of ``vision``, and where it is over the budget write it again with fewer blocks.

    Args:
        vision: the graphs of ``placement`` and their twin with the same blocks, as they were written.

    Returns:
        the manifest's record and the twin; None where no block stays within the budget, which a note says.
    """
    options, twin = context.options, twin_of(context, placement)
    check_numbers(context.folder / vision.twin["graphs"][0]["file"], smoothed, observation, twin)
    judged = _judge(context, sensitivity, vision, tuple(placement.blocks))
    errors = {name: error for name, error in sensitivity.errors.items() if name in placement.blocks}
    judge, budget = None, options.max_drop
    for _ in range(_CHOICES):
        if judged.share_used <= 1 or options.all_int8:
            break
        with context.steps.step("select the twin's blocks"):
            judge = judge or twin_judge(context, smoothed, observation)
            blocks = choose_blocks(errors, sensitivity.times, budget, judge.together).blocks
        if not blocks:
            break
        twin = replace(twin, blocks=blocks)
        with context.steps.step("quantize the graphs"):
            vision = graphs.write(context.folder, placement, twin)
            check_numbers(context.folder / vision.twin["graphs"][0]["file"], smoothed, observation, twin)
        judged = _judge(context, sensitivity, vision, blocks)
        budget *= min(0.7, 0.9 / judged.share_used)
    if judged.share_used <= 1 or options.all_int8:
        return vision, judged
    context.notes.append(_lacks_twin(context, judged))
    with context.steps.step("quantize the graphs"):
        return graphs.write(context.folder, placement), None


def _judge(
    context: CalibrationContext, sensitivity: Sensitivity, vision: Vision, blocks: tuple[str, ...]
) -> TwinJudgement:
    options, made = context.options, vision.twin
    alone = replace(vision, graphs=graphs_from(made["graphs"]), products=made["products"], twin=None)
    with context.steps.step("judge the twin for processors without VNNI"):
        file = context.folder / alone.graphs[0].file
        error = judge_graph(file, context.division.tiles, sensitivity.fp32_features, half=False)
        golden = golden_features(context.bundle, context.folder, alone)
    tolerance = tolerance_of(options.max_drop)
    shares = [features.share_used(tolerance) for features in golden.values()]
    return TwinJudgement(blocks, error, golden, max(error.points / options.max_drop, *shares))


def _lacks_twin(context: CalibrationContext, judged: TwinJudgement) -> str:
    return (
        f"no twin with weights of seven bits: {len(judged.blocks)} blocks lose {judged.share_used:.2g} times what "
        f"--max-drop {context.options.max_drop:g} allows; on x86 without VNNI exact products run, which are slower"
    )
