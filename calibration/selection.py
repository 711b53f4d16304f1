"""Selection and quantization: blocks are chosen and written, until the file itself is within the budget.

The errors of blocks were judged by torch's kernels in FP32. What is handed out is judged as it stands: its features,
those of the golden pictures against PyTorch's as ``laco-engine diff`` will compare them, the answers that it gives, and
its time. Where it is worse than its blocks promised, the budget for choosing shrinks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from laco_engines.store.processor_form import form_for_processor, multiplies_exactly
from laco_export.bundle import Bundle, Vision, write_manifest
from laco_export.console import say
from laco_export.onnx_session import open_session
from laco_export.quiet import quiet
from laco_export.timing import Series

from . import answers
from .blocks.block_errors import FeatureError
from .blocks.block_times import time_sessions
from .blocks.choice import Choice, choose_blocks
from .context import CalibrationContext
from .errors import NotWorthItError
from .observation import Observation, SmoothedGraph
from .quantizing.quantized_graphs import QuantizedGraphs, carry
from .sensitivity import Sensitivity
from .source.picture_set import PictureQuestion
from .twin import TwinJudgement, fit_twin, twin_of
from .verification import GoldenJudgement, check_numbers, judge_graph, judge_on_golden, tolerance_of

_MOST_QUESTIONS = 300
"""Asked of both bundles, evenly spaced: each answer takes up to a second."""

_ATTEMPTS = 4
"""Times that blocks are chosen before the command gives up."""


@dataclass(frozen=True)
class Selection:
    """The blocks in few bits, and the graphs that were written of them.

    Attributes:
        choice: the blocks.
        vision: the manifest's record of the graphs, which stand in the context's folder.
        error: of the file on the judging pictures.
        golden: the file on the golden pictures.
        twin: the graph with weights of seven bits beside it; None without one.
        answers: of the new bundle beside FP32's; None where nothing could be asked.
        times: ``base`` and ``eight_bit`` as a whole; None where the target's device is not here.
    """

    choice: Choice
    vision: Vision
    error: FeatureError
    golden: GoldenJudgement
    twin: TwinJudgement | None
    answers: answers.AnswerScore | None
    times: dict[str, Series] | None


def select(
    context: CalibrationContext, smoothed: SmoothedGraph, observation: Observation, sensitivity: Sensitivity
) -> Selection:
    """Choose blocks, quantize them into the context's folder, judge the file; again with less budget where it is over.

    Raises:
        NotWorthItError: no choice is within the budget and faster.
    """
    options = context.options
    graphs = QuantizedGraphs(context.bundle, options.target, smoothed.scales, context.division.tiles)
    comparison = _AnswerComparison(context)
    budget, tolerance, reason = options.max_drop, tolerance_of(options.max_drop), ""
    for _ in range(_ATTEMPTS):
        with context.steps.step("select the blocks"):
            choice = _choose(context, sensitivity, budget, reason)
        placement = context.placement(choice.blocks, observation.ranges)
        with context.steps.step("quantize the graphs"):
            vision = graphs.write(context.folder, placement, twin_of(context, placement))
            check_numbers(context.folder / vision.graphs[0].file, smoothed, observation, placement)
        error = _judge_file(context, sensitivity, vision)
        with context.steps.step("compare with PyTorch's golden features"):
            golden = judge_on_golden(context.bundle, context.folder, vision, smoothed.scales, half=context.half)
        score = comparison.score(vision) if error.points < 100 else None
        shares = {  # of what each may lose
            f"{error.points:.3g} points": error.points / options.max_drop,
            f"{golden.points:.3g} points on the golden pictures (worst: {golden.worst_picture})": golden.share_used(
                tolerance
            ),
            f"{score.points if score else 0:.3g} points of right answers": (score.points if score else 0)
            / options.max_drop,
        }
        lost = max(shares, key=shares.get)
        if shares[lost] <= 1 or options.all_int8:
            if golden.share_used(tolerance) > 1:
                context.notes.append(_fails_diff(context, golden))
            twin = None
            if vision.twin is not None:
                vision, twin = fit_twin(context, smoothed, observation, sensitivity, graphs, placement, vision)
            times = _time_whole(context, sensitivity, vision)
            return Selection(choice, vision, error, golden, twin, score, times)
        budget *= min(0.7, 0.9 / shares[lost])
        reason = f"the graph loses {lost} even with {len(choice.blocks)} blocks"
        say(f"{reason}: {shares[lost]:.2g} times what it may lose")
    raise _not_worth_it(context, sensitivity, reason)


def _fails_diff(context: CalibrationContext, golden: GoldenJudgement) -> str:
    return (
        f"--all-int8 hands out what is over the budget: {golden.points:.3g} points on the golden pictures (worst: "
        f"{golden.worst_picture}), of {context.options.max_drop:g} allowed; laco-engine diff says so too"
    )


def _choose(context: CalibrationContext, sensitivity: Sensitivity, budget: float, reason: str) -> Choice:
    """The fastest set of blocks within ``budget`` points, or all of them where that was asked for.

    Args:
        reason: why the choice before was not handed out; empty for the first.
    """
    if context.options.all_int8:
        return Choice(tuple(sensitivity.errors), sensitivity.judge.together(list(sensitivity.errors)), {})
    choice = choose_blocks(sensitivity.errors, sensitivity.times, budget, sensitivity.judge.together)
    if not choice.blocks:
        gains = "" if sensitivity.times is None else " and gains time"
        reason = reason or f"no block stays within {budget:.3g} points{gains}"
        raise _not_worth_it(context, sensitivity, reason)
    return choice


def _not_worth_it(context: CalibrationContext, sensitivity: Sensitivity, reason: str) -> NotWorthItError:
    """The error that says so, with the worst block and what can be done."""
    options, errors = context.options, sensitivity.errors
    worst = max(errors, key=lambda name: errors[name].points)
    progress = options.progress_file
    hint = f"; --resume uses the statistics kept in '{progress}'" if progress.exists() else ""
    return NotWorthItError(
        f"there is no {options.number_format.upper()} graph of this model that is worth having: {reason}",
        given=f"--max-drop {options.max_drop:g}; the worst block alone is {worst}, {errors[worst].points:.3g} points",
        allowed="a faster graph within the budget, or --all-int8 to have it in any case",
        todo="use the FP16 or FP32 bundle, allow more with --max-drop, try another --method, or, where golden pictures "
        f"lose most, calibrate on pictures like them, or export with --images of pictures like yours{hint}",
    )


def _judge_file(context: CalibrationContext, sensitivity: Sensitivity, vision: Vision) -> FeatureError:
    tiles = context.division.tiles
    with context.steps.step("judge the quantized file", len(tiles)) as advance:
        return judge_graph(
            context.folder / vision.graphs[0].file,
            tiles,
            sensitivity.fp32_features,
            half=context.half,
            answer_share=sensitivity.judge.answer_share,
            advance=advance,
        )


class _AnswerComparison:
    """Asks the new bundle what the FP32 bundle was asked, which answers once."""

    def __init__(self, context: CalibrationContext):
        self._context = context
        self._questions = _evenly_spaced(context.picture_set.questions)
        self._fp32_answers: list[str | None] | None = None

    def score(self, vision: Vision) -> answers.AnswerScore | None:
        """The answers of the bundle with the graphs ``vision``; None where there is nothing to ask or nobody to
        answer."""
        context, questions = self._context, self._questions
        if context.bundle.manifest.decoder is None or not questions:
            return None
        with context.steps.step("ask both bundles", 2 * len(questions)) as advance, quiet():
            if self._fp32_answers is None:
                bundle = context.bundle
                self._fp32_answers = answers.ask(bundle.path, questions, advance, at=bundle.depths[0])
            carry(context.bundle, context.folder)
            alone = replace(vision, twin=None)  # the same answers on every processor
            write_manifest(context.folder, replace(context.bundle.manifest, vision=alone))
            quantized_answers = answers.ask(context.folder, questions, advance)
        score = answers.score(questions, self._fp32_answers, quantized_answers)
        left_out = len(questions) - score.questions
        reasons = "picture unreadable, text too long or special"
        note = f"{left_out} of {len(questions)} questions could not be asked ({reasons})"
        if left_out and note not in context.notes:
            context.notes.append(note)
        return score


def _evenly_spaced(questions: Sequence[PictureQuestion]) -> list[PictureQuestion]:
    if len(questions) <= _MOST_QUESTIONS:
        return list(questions)
    return [questions[i] for i in np.linspace(0, len(questions) - 1, _MOST_QUESTIONS).round().astype(int)]


def _time_whole(context: CalibrationContext, sensitivity: Sensitivity, vision: Vision) -> dict[str, Series] | None:
    """The new file against the FP32 file it came from, in turn: one that is not faster is not handed out."""
    if context.half:
        return None
    made, _ = form_for_processor(Bundle(context.folder, replace(context.bundle.manifest, vision=vision)))
    files = {"base": context.base_graph, "eight_bit": made.file(made.manifest.vision.graphs[0].file)}
    exact = not multiplies_exactly(made)
    with context.steps.step("time the whole"):
        series = time_sessions({name: open_session(file, exact_products=exact) for name, file in files.items()})
    base, eight_bit = (series[name].quantile(0.5) for name in files)
    if eight_bit >= base and sensitivity.times is not None and not context.options.all_int8:
        reason = f"the whole is not faster: {eight_bit:.1f} ms against {base:.1f} ms"
        if context.format_here != context.number_format and vision.twin is None:
            reason += "; --portable chooses blocks for weights of seven bits, which are faster on this processor"
        raise _not_worth_it(context, sensitivity, reason)
    return series
