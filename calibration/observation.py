"""Smoothing and observation: outliers moved into the weights, then the statistics of every Linear's input."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from laco_export.exporter.external_data import graph_from_file
from laco_export.quiet import quiet

from .blocks.block_errors import FeatureError, feature_error
from .context import CalibrationContext
from .earlier_statistics import earlier_statistics, load_statistics
from .errors import CalibrationError
from .graph.linear_layers import Block, find_blocks
from .graph.partial_runner import SegmentRunner
from .smoothing.fold import Fold, find_folds, fold_scales
from .smoothing.search import SEARCH_PICTURES, search_strengths
from .source.held_out import require_enough
from .statistics.observer import empty_statistics, observe
from .statistics.records import Statistics, scales_digest
from .statistics.thresholds import candidates_of, minimum_of

_EQUAL_POINTS = 1e-3
"""Points by which folding may move ``image_features`` in FP32: it changes the order of roundings and nothing else."""


@dataclass(frozen=True)
class SmoothedGraph:
    """The FP32 graph with its outlier channels moved into the weights, where that was chosen.

    Attributes:
        graph: at batch 1; not to be changed any more.
        digest: of the bundle's graph, as it is on disk.
        blocks: with their Linear layers, in the order of the computation.
        strengths: block → smoothing strength.
        scales: Linear input → the scales ``[C]`` that were folded.
        error: of the smoothed graph against the plain one in FP32; None where nothing was folded.
        earlier: statistics to go on with; None where the pictures are all new.
    """

    graph: gs.Graph
    digest: str
    blocks: list[Block]
    strengths: Mapping[str, float]
    scales: Mapping[str, np.ndarray]
    error: FeatureError | None
    earlier: Statistics | None

    @property
    def block_names(self) -> list[str]:
        return [block.name for block in self.blocks]


@dataclass(frozen=True)
class Observation:
    """What the pictures show.

    Attributes:
        statistics: of the smoothed graph's tensors; of no picture for weights alone.
        methods: block → the method that its ranges are cut by; empty for weights alone.
        ranges: Linear input → the range that is kept of it; empty for weights alone.
    """

    statistics: Statistics
    methods: Mapping[str, str]
    ranges: Mapping[str, tuple[float, float]]


def smooth(context: CalibrationContext) -> SmoothedGraph:
    """Search the strengths, fold the scales in, and prove that FP32 computes the same.

    Raises:
        CalibrationError: the graph has no Linear layers; there are too few pictures for the method, which is told
            before the search; earlier statistics cannot be used; folding changed what the graph computes.
    """
    options, bundle = context.options, context.bundle
    digest = bundle.graph_sha256(bundle.manifest.vision.graphs[0])
    with quiet():
        graph = graph_from_file(context.base_graph)
        blocks = find_blocks(graph)
    if not blocks:
        raise CalibrationError("the vision graph has no Linear layers that could be quantised")
    earlier = earlier_statistics(options, graph, digest)
    if earlier is not None and options.resume and options.progress_file.exists():
        context.notes.append(f"resumed after {len(earlier.pictures)} pictures")
    if earlier is None and not context.weights_only:
        # The search takes a minute at full size; pictures that break only later are counted in observe_pictures().
        left = [picture for picture in context.division.observed if str(picture.path) not in context.picture_set.broken]
        require_enough(len(left), context.picture_set, options.method, minimum_of(options.method))
    chosen_before = earlier
    if options.smoothing_of is not None and earlier is None:
        chosen_before = load_statistics(options.smoothing_of, digest)
    folds = find_folds(graph, blocks)
    if chosen_before is not None:
        strengths: Mapping[str, float] = chosen_before.strengths
        scales = {name: np.asarray(values, np.float32) for name, values in chosen_before.scales.items()}
    else:
        strengths, scales = _search(context, graph, blocks, folds)
    error = _fold_and_compare(graph, folds, scales, context.division.tiles[0]) if scales else None
    return SmoothedGraph(graph, digest, blocks, strengths, scales, error, earlier)


def _search(
    context: CalibrationContext, graph: gs.Graph, blocks: Sequence[Block], folds: Sequence[Fold]
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Block → strength and Linear input → scales; nothing where none are wanted."""
    if not context.options.smoothing or context.weights_only or not folds:
        return {}, {}
    with context.steps.step("search the smoothing", len({fold.block for fold in folds})) as advance:
        return search_strengths(
            graph,
            blocks,
            folds,
            context.division.tiles[:SEARCH_PICTURES],
            context.number_format,
            candidates_of(context.options.method),
            half_scales=context.form.half_scales,
            advance=advance,
        )


def _fold_and_compare(
    graph: gs.Graph, folds: Sequence[Fold], scales: Mapping[str, np.ndarray], picture: np.ndarray
) -> FeatureError:
    """Fold ``scales`` into ``graph``, in place, and give its error against the plain one on ``picture``."""
    before = SegmentRunner(graph).run(picture).numpy()
    fold_scales(graph, folds, scales)
    error = feature_error(before, SegmentRunner(graph).run(picture).numpy())
    if not error.points <= _EQUAL_POINTS:
        raise CalibrationError(
            "folding the smoothing scales changed what the FP32 graph computes",
            given=f"{error.points:.2g} points",
            allowed=f"{_EQUAL_POINTS:g} points",
            todo="run with --no-smoothing, and report this",
        )
    return error


def observe_pictures(context: CalibrationContext, smoothed: SmoothedGraph) -> Statistics:
    """Stream every Linear's input into histograms, picture by picture; of no picture for weights alone.

    Raises:
        CalibrationError: the model computes inf or NaN; too few pictures could be read; no picture is left to judge on
            that ranges are not cut to.
    """
    options, statistics = context.options, smoothed.earlier
    if statistics is None:
        statistics = empty_statistics(smoothed.graph, smoothed.digest, attention=options.attention)
        statistics.strengths = dict(smoothed.strengths)
        statistics.scales = {name: [float(v) for v in scale] for name, scale in smoothed.scales.items()}
        statistics.smoothing = scales_digest(statistics.scales)
    if context.weights_only:
        return statistics
    seen, progress = set(statistics.pictures), options.progress_file
    todo = [picture for picture in context.division.observed if picture.sha256 not in seen]
    _require_unseen_judges(context, seen)
    with context.steps.step("observe the pictures", len(todo)) as advance, quiet():
        statistics.save(progress)  # an interrupted run keeps its smoothing
        observe(smoothed.graph, context.bundle, context.picture_set, todo, statistics, keep=progress, advance=advance)
    try:
        require_enough(len(statistics.pictures), context.picture_set, options.method, minimum_of(options.method))
    except CalibrationError:
        progress.unlink()
        raise
    statistics.broken |= context.picture_set.broken
    _note_judges_that_were_seen(context, statistics)
    return statistics


def _require_unseen_judges(context: CalibrationContext, seen: Collection[str]) -> None:
    """Refuse to call accurate what was judged by nothing but the pictures that its ranges are cut to."""
    if context.unseen_judges(seen) or len(context.golden_seen) < context.division.golden:
        return
    raise CalibrationError(
        "there is no picture to judge on that is not calibrated on as well",
        given=f"{len(context.division.observed)} different pictures, the bundle's {context.division.golden} golden "
        "ones among them",
        allowed="a picture more than --method needs, or a bundle with other golden pictures",
        todo="give more pictures, or export without --images",
    )


def _note_judges_that_were_seen(context: CalibrationContext, statistics: Statistics) -> None:
    judging, unseen = context.division.judging, context.unseen_judges(statistics.pictures)
    if len(unseen) < len(judging):
        fewer = len(context.division.held_out) < len(judging)
        why = "too few were given to hold more back" if fewer else "the earlier statistics saw them"
        both = len(judging) - len(unseen)
        context.notes.append(f"judged on pictures that were also calibrated on ({both} of {len(judging)}): {why}")
    if context.golden_seen:
        context.notes.append(f"golden pictures that were also calibrated on: {', '.join(context.golden_seen)}")
