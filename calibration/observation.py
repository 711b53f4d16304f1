"""What a calibration looks at: the graph with its outliers smoothed away, and the statistics of the pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from laco_export.exporter.external_data import graph_from_file
from laco_export.quiet import quiet

from .blocks.block_errors import Error, compare_features
from .context import Run
from .errors import CalibrationError
from .graph.linear_layers import Block, find_blocks
from .graph.partial_runner import SegmentRunner
from .smoothing.fold import find_folds, fold_scales
from .smoothing.search import PICTURES as SEARCH_PICTURES
from .smoothing.search import search_strengths
from .source.held_out import require_enough
from .statistics.observer import empty_statistics, observe
from .statistics.records import Statistics, merge, scales_digest

EQUAL = 1e-3
"""Points by which folding may move ``image_features`` in FP32: it changes the order of roundings and nothing else."""


class Looking:
    """The first half of a calibration.

    Attributes:
        digest: of the bundle's graph.
        graph: the FP32 graph, smoothed by :meth:`smooth`.
        strengths, scales: block → strength, Linear input → scales ``[C]``.
        smoothing_error: of the smoothed graph against the plain one in FP32; None where nothing was folded.
        statistics: of the smoothed graph.

    Raises:
        CalibrationError: no Linear layers; statistics of another graph or of an unfinished run; see the methods.
    """

    def __init__(self, run: Run):
        self.run = run
        self._read_graph()
        self._begin_statistics()
        if run.number_format.activations is not None and self.statistics is None:
            # Before the search, which takes a minute at full size; those that break only now are counted in look().
            left = [one for one in run.division.looked_at if str(one.path) not in run.pictures.broken]
            require_enough(len(left), run.pictures, run.options.method)

    def _read_graph(self) -> None:
        self.digest = self.run.bundle.graph_sha256(self.run.bundle.manifest.vision.graphs[0])
        with quiet():
            self.graph = graph_from_file(self.run.base_graph)
            self.blocks: list[Block] = find_blocks(self.graph)
        if not self.blocks:
            raise CalibrationError("the vision graph has no Linear layers that could be quantised")

    def _begin_statistics(self) -> None:
        """What is known already: those of an interrupted run, or other calibrations'."""
        self.statistics: Statistics | None = None
        options = self.run.options
        kept = options.progress_file
        if kept.exists() and options.resume:
            self.statistics = self._load_statistics(kept)
            self._require_begun_so(kept)
            self.run.notes.append(f"resumed after {len(self.statistics.pictures)} pictures")
        elif kept.exists() and not options.force:
            raise CalibrationError(
                "an earlier calibration to this output did not end",
                given=f"its statistics are in '{kept}'",
                allowed="--resume to go on with them, or --force to start over",
            )
        elif options.statistics:
            self.statistics = merge([self._load_statistics(path) for path in options.statistics])
        if self.statistics is not None and self.statistics.scales and not options.smoothing:
            raise CalibrationError(
                "the statistics were taken with smoothing, and hold for the smoothed graph alone",
                given="--no-smoothing",
                todo="leave out --no-smoothing, or look at the pictures anew",
            )
        wanted = empty_statistics(self.graph, self.digest, attention=options.attention)
        if self.statistics is not None and not wanted.tensors.keys() <= self.statistics.tensors.keys():
            raise CalibrationError(
                "the statistics do not have every tensor that is to be quantised",
                todo="take them with --attention, or calibrate without it",
            )

    def _require_begun_so(self, kept: Path) -> None:
        """Refuse to resume with other statistics or another smoothing than the interrupted run was begun with."""
        options, known = self.run.options, self.statistics
        other = []
        for path in options.statistics:
            part = self._load_statistics(path)
            if part.smoothing != known.smoothing or set(part.pictures) - set(known.pictures):
                other.append(f"--statistics {path}")
        smoothing = options.smoothing_of
        if smoothing is not None and self._load_statistics(smoothing).smoothing != known.smoothing:
            other.append(f"--smoothing-of {smoothing}")
        if other:
            raise CalibrationError(
                f"the interrupted run, whose statistics are in '{kept}', was not begun so",
                given=", ".join(other),
                todo="resume it without them, or start over with --force",
            )

    def _load_statistics(self, path: Path) -> Statistics:
        loaded = Statistics.load(path)
        loaded.require_same(self.digest, path)
        return loaded

    def smooth(self) -> None:
        """Search the strengths, fold the scales in, and prove that FP32 computes the same."""
        run, options, known = self.run, self.run.options, self.statistics
        if options.smoothing_of is not None and known is None:
            known = self._load_statistics(options.smoothing_of)
        folds = find_folds(self.graph, self.blocks)
        self.strengths: dict[str, float] = {}
        self.scales: dict[str, np.ndarray] = {}
        if known is not None:
            self.strengths = known.strengths
            self.scales = {name: np.asarray(values, np.float32) for name, values in known.scales.items()}
        elif options.smoothing and run.number_format.activations is not None and folds:
            with run.steps.step("search the smoothing", len({fold.block for fold in folds})) as advance:
                self.strengths, self.scales = search_strengths(
                    self.graph,
                    self.blocks,
                    folds,
                    run.division.tiles[:SEARCH_PICTURES],
                    run.number_format,
                    options.method,
                    half_scales=run.recipe.half_scales,
                    advance=advance,
                )
        self.smoothing_error = self._fold(folds) if self.scales else None
        if self.statistics is None:
            self.statistics = empty_statistics(self.graph, self.digest, attention=options.attention)
            self.statistics.strengths = self.strengths
            self.statistics.scales = {name: [float(v) for v in values] for name, values in self.scales.items()}
            self.statistics.smoothing = scales_digest(self.statistics.scales)

    def _fold(self, folds) -> Error:
        picture = self.run.division.tiles[0]
        before = SegmentRunner(self.graph).run(picture).numpy()
        fold_scales(self.graph, folds, self.scales)
        error = compare_features(before, SegmentRunner(self.graph).run(picture).numpy())
        if not error.points <= EQUAL:
            raise CalibrationError(
                "folding the smoothing scales changed what the FP32 graph computes",
                given=f"{error.points:.2g} points",
                allowed=f"{EQUAL:g} points",
                todo="run with --no-smoothing, and report this",
            )
        return error

    def look(self) -> None:
        run, options = self.run, self.run.options
        if run.number_format.activations is None:
            return  # weights alone: nothing about the activations is needed
        seen, keep = set(self.statistics.pictures), options.progress_file
        todo = [one for one in run.division.looked_at if one.sha256 not in seen]
        with run.steps.step("look at the pictures", len(todo)) as advance, quiet():
            self.statistics.save(keep)  # an interrupted run keeps its smoothing
            observe(self.graph, run.bundle, run.pictures, todo, self.statistics, keep=keep, advance=advance)
        try:
            require_enough(len(self.statistics.pictures), run.pictures, options.method)
        except CalibrationError:
            keep.unlink()
            raise
