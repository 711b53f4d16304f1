"""A calibration, in order.

    report = calibrate(CalibrationOptions(bundle=Path("laco-at1_2-fp32"), images=[Path("photos")], recipe="cpu"))

verify the bundle → find the pictures, hold some back to judge on → smooth → look at the pictures → judge each block →
time each block → choose → write → judge the file itself, and what it answers → time it → manifest → rename. Where the
file is worse than its blocks promised, the budget for choosing shrinks and the choice is made again.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from laco_export import __version__
from laco_export.atomic import new_directory, refuse_existing
from laco_export.bundle import Bundle, open_bundle, write_manifest
from laco_export.console import console, progress
from laco_export.exporter.external_data import graph_from_file
from laco_export.exporter.quiet import quiet

from . import answers, verification
from .block_errors import BlockJudge, Error, compare_features
from .block_times import measure_blocks
from .choice import BlockTime, Choice, choose_blocks
from .errors import CalibrationError, NotWorthItError
from .linears import Block, find_blocks
from .observer import empty_statistics, observe
from .options import CalibrationOptions
from .pictures import Pictures, find_pictures, readable
from .plot import draw_blocks
from .quantized_bundle import QuantizedGraphs, carry
from .recipes import Placement
from .report import Report
from .segments import SegmentRunner
from .smoothing import find_folds, fold_scales
from .statistics import Statistics, graph_digest, merge, scales_digest
from .strengths import PICTURES as SEARCH_PICTURES
from .strengths import search_strengths
from .swapping import Swap
from .thresholds import METHODS
from .timing import Timed, device, interleaved, open_session, runner_of

JUDGES = 8
"""Pictures that errors are judged on: each costs a pass from every block on."""

ATTEMPTS = 4
"""Times that the choice is made before the command gives up."""

WHOLE_BURSTS = 5

STATISTICS_NAME, PLOT_NAME = "calibration.json", "calibration.png"

EQUAL = 1e-3
"""Points by which folding may move ``image_features`` in FP32: it changes the order of roundings and nothing else."""


def calibrate(options: CalibrationOptions) -> Report:
    """Make an INT8 bundle.

    Raises:
        CalibrationError, UsageError, BundleError, OutputExistsError: what was given cannot be used.
        NotWorthItError: no quantised graph is faster and accurate enough. Nothing is left under the output's name; the
            statistics stay beside it, for ``--resume`` with another budget.
    """
    output = options.output_folder
    refuse_existing(output, force=options.force)
    with ExitStack() as stack:
        folder = options.bundle if options.model is None else stack.enter_context(_exported(options))
        bundle = _open_fp32(folder)
        with new_directory(output, force=options.force) as partial:
            report = _Calibration(options, bundle, output, partial).run()
    options.progress_file.unlink(missing_ok=True)
    return report


@contextmanager
def _exported(options: CalibrationOptions) -> Iterator[Path]:
    """The checkpoint as an FP32 bundle in a temporary folder beside the output."""
    from laco_export.exporter.options import ExportOptions
    from laco_export.exporter.pipeline import export_bundle

    output = options.output_folder.absolute()
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.export-", dir=output.parent) as folder:
        target = options.recipe_entry.target
        export = ExportOptions(
            options.model,
            at=options.at,
            target=target,
            precision="fp32",
            output=Path(folder) / options.model.resolve().name,
            compile=False,
        )
        yield export_bundle(export).output


def _open_fp32(folder: Path) -> Bundle:
    with console().status("verifying the bundle"):
        bundle = open_bundle(folder)
    vision = bundle.manifest.vision
    if vision.calibration is not None:
        raise CalibrationError(
            f"bundle '{folder}' is calibrated already: its vision graph is {vision.precision}",
            todo="calibrate the FP32 bundle that it was made from",
        )
    if vision.precision != "fp32":
        raise CalibrationError(
            "calibration starts from FP32",
            given=f"bundle '{folder}' is {vision.precision}",
            todo="export with --fp32, or give the checkpoint with --model",
        )
    return bundle


class _Calibration:
    """One run: what the steps hand to each other, and the steps in order."""

    def __init__(self, options: CalibrationOptions, bundle: Bundle, output: Path, folder: Path):
        self.options, self.bundle, self.output, self.folder = options, bundle, output, folder
        self.recipe = options.recipe_entry
        self.number_format = self.recipe.formats[options.number_format]
        self.seconds: dict[str, float] = {}
        self.notes: list[str] = []

    def run(self) -> Report:
        self._require_space()
        self._find_pictures()
        self._read_graph()
        self._begin_statistics()
        self._smooth()
        self._look()
        self._judge_blocks()
        self._time_blocks()
        whole = self._write_within_budget()
        self._carry_and_plot()
        return self._finish(whole)

    @contextmanager
    def _step(self, name: str, total: int | None = None):
        start = time.perf_counter()
        if console().is_terminal:
            with progress(name, total) as advance:
                yield advance
        else:
            yield lambda *_: None
        self.seconds[name] = round(self.seconds.get(name, 0) + time.perf_counter() - start, 3)
        if not console().is_terminal:
            console().print(f"{name}: {self.seconds[name]:.1f} s")

    def _require_space(self) -> None:
        vision = self.bundle.manifest.vision
        weights = self.bundle.manifest.files[vision.weights]["bytes"]
        needed = weights * (0.9 if self.recipe.base == "fp16" else 0.4)  # int8 a quarter, the FP16 fallback a half
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise CalibrationError(
                f"the disk of '{self.output.absolute().parent}' cannot hold the bundle",
                given=f"{free / 1e6:,.1f} MB free",
                allowed=f"about {needed / 1e6:,.1f} MB",
                todo="free some space, or choose another --output",
            )

    def _find_pictures(self) -> None:
        """Split the pictures: some judge, the others are looked at. With few, all do both, and a note says so."""
        with self._step("find the pictures"):
            self.pictures = find_pictures(self.options.images)
            if self.options.questions is not None:
                self.pictures.questions = find_pictures([self.options.questions]).questions
            found = self.pictures.found
            if self.options.limit is not None and len(found) > self.options.limit:
                found = [found[i] for i in np.linspace(0, len(found) - 1, self.options.limit).round().astype(int)]
            spread = np.linspace(0, len(found) - 1, min(JUDGES, len(found))).round().astype(int).tolist()
            order = [found[i] for i in spread] + [one for i, one in enumerate(found) if i not in set(spread)]
            judges: list = []
            for picture in order:
                if len(judges) == min(JUDGES, len(found)):
                    break
                judges += readable(self.pictures, self.bundle, [picture])
        if not judges:
            raise _nothing_readable(self.pictures)
        held_out = len(found) - JUDGES >= max(JUDGES, METHODS[self.options.method].minimum)
        judging = {picture.sha256 for picture, _ in judges}
        self.looked_at = [one for one in found if not (held_out and one.sha256 in judging)]
        if not held_out:
            self.notes.append("judged on pictures that were also calibrated on: too few were given to hold some back")
        self.judges = [tile for _, tiles in judges for tile in tiles[:1]]
        self.judge_hashes = [picture.sha256 for picture, _ in judges]

    def _read_graph(self) -> None:
        self.digest = graph_digest(self.bundle)
        with quiet():
            self.graph = graph_from_file(self.bundle.file(self.bundle.manifest.vision.graphs[0].file))
            self.blocks: list[Block] = find_blocks(self.graph)
        if not self.blocks:
            raise CalibrationError("the vision graph has no Linear layers that could be quantised")
        self.block_of_node = {linear.node: block.name for block in self.blocks for linear in block.linears}

    def _begin_statistics(self) -> None:
        """What is known already: other calibrations' statistics, or those of an interrupted run."""
        self.statistics: Statistics | None = None
        kept = self.options.progress_file
        if self.options.statistics:
            parts = [Statistics.load(path) for path in self.options.statistics]
            for part, path in zip(parts, self.options.statistics):
                part.require_same(self.digest, path)
            self.statistics = merge(parts)
            self.looked_at = []
        elif kept.exists() and self.options.resume:
            self.statistics = Statistics.load(kept)
            self.statistics.require_same(self.digest, kept)
            self.notes.append(f"resumed after {len(self.statistics.pictures)} pictures")
        elif kept.exists() and not self.options.force:
            raise CalibrationError(
                "an earlier calibration to this output did not end",
                given=f"its statistics are in '{kept}'",
                allowed="--resume to go on with them, or --force to start over",
            )

    def _smooth(self) -> None:
        """Search the strengths, fold the scales in, and prove that FP32 computes the same."""
        self.strengths: dict[str, float] = {}
        folds = find_folds(self.graph, self.blocks)
        if self.statistics is not None:
            scales = {name: np.asarray(values, np.float32) for name, values in self.statistics.scales.items()}
        elif self.options.smoothing and self.number_format.activations is not None and folds:
            with self._step("search the smoothing", len({fold.block for fold in folds})) as advance:
                self.strengths, scales = search_strengths(
                    self.graph,
                    self.blocks,
                    folds,
                    self.judges[:SEARCH_PICTURES],
                    self.number_format,
                    self.options.method,
                    half_scales=self.recipe.half_scales,
                    advance=advance,
                )
        else:
            scales = {}
        self.scales: dict[str, np.ndarray] = scales
        self.smoothing_error: Error | None = None
        if scales:
            before = SegmentRunner(self.graph).run(self.judges[0]).numpy()
            fold_scales(self.graph, folds, scales)
            after = SegmentRunner(self.graph).run(self.judges[0]).numpy()
            self.smoothing_error = compare_features(before, after)
            if not self.smoothing_error.points <= EQUAL:
                raise CalibrationError(
                    "folding the smoothing scales changed what the FP32 graph computes",
                    given=f"{self.smoothing_error.points:.2g} points",
                    allowed=f"{EQUAL:g} points",
                    todo="run with --no-smoothing, and report this",
                )
        if self.statistics is None:
            self.statistics = empty_statistics(self.graph, self.digest)
            self.statistics.scales = {name: [float(v) for v in values] for name, values in scales.items()}
            self.statistics.smoothing = scales_digest(self.statistics.scales)

    def _look(self) -> None:
        if self.number_format.activations is None:
            return  # weights alone: nothing about the activations is needed
        todo = [one for one in self.looked_at if one.sha256 not in set(self.statistics.pictures)]
        with self._step("look at the pictures", len(todo)) as advance, quiet():
            observe(
                self.graph,
                self.bundle,
                self.pictures,
                self.looked_at,
                self.statistics,
                keep=self.options.progress_file,
                advance=advance,
            )
        if not self.statistics.pictures:
            raise _nothing_readable(self.pictures)
        minimum, seen = METHODS[self.options.method].minimum, len(self.statistics.pictures)
        if seen < minimum:
            broken = f"; {len(self.pictures.broken)} could not be read" if self.pictures.broken else ""
            raise CalibrationError(
                f"--method {self.options.method} needs more pictures",
                given=f"{seen} that can be read{broken}",
                allowed=f"at least {minimum}; a few hundred like those the model will see are better",
                todo="give more pictures, or --method max",
            )

    def _placement(self, blocks) -> Placement:
        return Placement(self.number_format, blocks, self.ranges, {})

    def _judge_blocks(self) -> None:
        self.ranges = {}
        if self.number_format.activations is not None:
            self.ranges = self.statistics.ranges(self.options.method)
        swap = Swap(self.number_format, self.ranges, self.block_of_node, half_scales=self.recipe.half_scales)
        self.judge = BlockJudge(SegmentRunner(self.graph), swap, self.judges)
        names = [block.name for block in self.blocks]
        with self._step("judge each block", len(names) * len(self.judges)) as advance:
            self.errors: dict[str, Error] = self.judge.each(names, advance)

    def _time_blocks(self) -> None:
        self.times: dict[str, BlockTime] | None = None
        if self.recipe.base != "fp32" or self.number_format.activations is None:
            return
        with self._step("time each block", len(self.blocks)) as advance, quiet():
            self.times = measure_blocks(
                self.graph,
                self.blocks,
                self.recipe,
                self._placement(()),
                ir_version=self.bundle.manifest.vision.ir_version,
                advance=advance,
            )

    def _choose(self, max_drop: float) -> Choice:
        if self.options.all_int8:
            return Choice(tuple(self.errors), self.judge.together(list(self.errors)), {})
        choice = choose_blocks(self.errors, self.times, max_drop, self.judge.together)
        if not choice.blocks:
            raise self._not_worth_it(f"no block stays within {max_drop:.3g} points and gains time")
        return choice

    def _write_within_budget(self) -> Error:
        """Choose, write and judge the file itself, until it is within the budget."""
        graphs = QuantizedGraphs(self.bundle, self.recipe, self.scales, self.judges)
        allowed = self.options.max_drop
        with self._step("run the FP32 graph on the judging pictures"):
            session = open_session(self.bundle.file(self.bundle.manifest.vision.graphs[0].file))
            expected = [session.run(None, {session.get_inputs()[0].name: picture})[0] for picture in self.judges]
            del session
        for _ in range(ATTEMPTS):
            with self._step("choose"):
                self.choice = self._choose(allowed)
            with self._step("write the graphs"):
                self.vision = graphs.write(self.folder, self._placement(self.choice.blocks))
            with self._step("judge the file"):
                path = self.folder / self.vision.graphs[0].file
                error = verification.judge_graph(path, self.judges, expected)
            points = max(error.points, self._ask(error))
            if points <= self.options.max_drop or self.options.all_int8:
                self._time_whole()
                return error
            allowed *= min(0.7, 0.9 * self.options.max_drop / points)
        raise self._not_worth_it(f"the graph loses {points:.3g} points even with {len(self.choice.blocks)} blocks")

    def _ask(self, error: Error) -> float:
        """Right answers lost, in points; 0 where there is nothing to ask or nobody to answer."""
        self.answers = None
        if self.bundle.manifest.decoder is None or not self.pictures.questions or not error.points < 100:
            return 0.0
        asked = self.pictures.questions
        if len(asked) > self.options.ask:
            asked = [asked[i] for i in np.linspace(0, len(asked) - 1, self.options.ask).round().astype(int)]
        with self._step("ask both bundles", 2 * len(asked)) as advance, quiet():
            if not hasattr(self, "base_answers"):
                self.base_answers = answers.ask(self.bundle.path, asked, advance)
            carry(self.bundle, self.folder)
            write_manifest(self.folder, replace(self.bundle.manifest, vision=self.vision))
            given = answers.ask(self.folder, asked, advance)
        self.answers = answers.score(asked, self.base_answers, given)
        return self.answers.points

    def _time_whole(self) -> None:
        """The INT8 file against the FP32 file it came from, in turn: INT8 that is not faster is not handed out."""
        self.whole_times: dict[str, Timed] | None = None
        if self.times is None:
            return
        base = self.bundle.file(self.bundle.manifest.vision.graphs[0].file)
        with self._step("time the whole"):
            sessions = {"base": open_session(base), "eight_bit": open_session(self.folder / self.vision.graphs[0].file)}
            found = interleaved({name: runner_of(one) for name, one in sessions.items()}, bursts=WHOLE_BURSTS)
        self.whole_times = found
        if found["eight_bit"].milliseconds >= found["base"].milliseconds and not self.options.all_int8:
            numbers = f"{found['eight_bit'].milliseconds:.1f} ms against {found['base'].milliseconds:.1f} ms"
            raise self._not_worth_it(f"the whole is not faster: {numbers}")

    def _not_worth_it(self, reason: str) -> NotWorthItError:
        worst = max(self.errors, key=lambda name: self.errors[name].points)
        kept = self.options.progress_file
        hint = f"; --resume uses the statistics kept in '{kept}'" if kept.exists() else ""
        return NotWorthItError(
            f"there is no {self.options.number_format.upper()} graph of this model that is worth having: {reason}",
            given=f"--max-drop {self.options.max_drop:g}; the worst block alone is {worst}, "
            f"{self.errors[worst].points:.3g} points",
            allowed="a faster graph within the budget, or --all-int8 to have it in any case",
            todo=f"use the FP16 or FP32 bundle, allow more with --max-drop, or try another --method{hint}",
        )

    def _carry_and_plot(self) -> None:
        carry(self.bundle, self.folder)
        (self.folder / "laco.json").unlink(missing_ok=True)
        if self.number_format.activations is not None:
            self.statistics.broken |= self.pictures.broken
            self.statistics.save(self.folder / STATISTICS_NAME)
        merge_at = next((i for i, block in enumerate(self.blocks) if block.region == "merge"), None)
        draw_blocks(
            self.errors,
            self.times,
            self.choice.blocks,
            max_drop=self.options.max_drop,
            merge_at=merge_at,
            title=f"{self.output.name}: {self.recipe.name}, {self.options.number_format}, {self.options.method}",
        ).save(self.folder / PLOT_NAME)

    def _finish(self, error: Error) -> Report:
        with self._step("compare with PyTorch's golden features"):
            path = self.folder / self.vision.graphs[0].file
            proof = verification.golden_proof(self.bundle, path, self.scales, self.vision.ir_version)
        tolerance = verification.tolerance_of(self.options.max_drop, error)
        accuracy = {**self.bundle.manifest.accuracy, **verification.with_tolerance(proof, tolerance), "also": {}}
        record = self._record(error)
        manifest = replace(
            self.bundle.manifest,
            tool_version=__version__,
            vision=replace(self.vision, calibration=record),
            accuracy=accuracy,
            notes=[*self.bundle.manifest.notes, *self.notes],
            files={},
        )
        write_manifest(self.folder, manifest)
        return Report(self.output, record, self.pictures.broken, self.notes, self.seconds)

    def _record(self, error: Error) -> dict:
        return {
            "recipe": self.recipe.name,
            "number_format": self.options.number_format,
            "activations": self.number_format.activations,
            "weights": self.number_format.weights,
            "method": self.options.method,
            "max_drop": self.options.max_drop,
            "base": self.recipe.base,
            "source_graph_sha256": self.digest,
            "statistics": None if self.number_format.activations is None else STATISTICS_NAME,
            "statistics_sha256": self.statistics.digest(),
            "pictures": len(self.statistics.pictures),
            "broken_pictures": len(self.pictures.broken),
            "duplicate_pictures": self.pictures.duplicates,
            "judged_on": self.judge_hashes,
            "judged": asdict(error),
            "points": error.points,
            "answers": None if self.answers is None else asdict(self.answers),
            "smoothing_equal_in_fp32": None if self.smoothing_error is None else asdict(self.smoothing_error),
            "time": "unmeasured" if self.whole_times is None else "measured",
            "device": None if self.whole_times is None else device(),
            "milliseconds": None
            if self.whole_times is None
            else {name: asdict(one) for name, one in self.whole_times.items()},
            "blocks": [self._block_record(block) for block in self.blocks],
        }

    def _block_record(self, block: Block) -> dict:
        times = None if self.times is None else self.times[block.name]
        return {
            "name": block.name,
            "region": block.region,
            "eight_bit": block.name in self.choice.blocks,
            "reason": self.choice.reasons.get(block.name),
            **asdict(self.errors[block.name]),
            "points": self.errors[block.name].points,
            "base_ms": None if times is None else times.base,
            "eight_bit_ms": None if times is None else times.eight_bit,
            "smoothing": self.strengths.get(block.name, 0.0),
        }


def _nothing_readable(pictures: Pictures) -> CalibrationError:
    return CalibrationError(
        "none of the pictures can be read",
        given=f"{len(pictures.broken)} broken: {pictures.describe_broken()}",
        todo="give pictures that open in an image viewer",
    )
