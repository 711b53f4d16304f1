"""A calibration, in order.

    report = calibrate(CalibrationOptions(bundle=Path("laco-at1_2-fp32"), images=[Path("photos")], recipe="cpu"))

verify the bundle → find the pictures, hold some back to judge on → smooth → look at the pictures → judge each block →
time each block → choose → write → judge the file itself, and what it answers → time it → manifest → rename. Where the
file is worse than its blocks promised, the budget for choosing shrinks and the choice is made again.
"""

from __future__ import annotations

import shutil
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from laco_export import __version__
from laco_export.atomic import new_directory, refuse_existing
from laco_export.bundle import Bundle, refuse_to_replace_others, write_manifest
from laco_export.console import console, progress
from laco_export.exporter import compile_gate
from laco_export.exporter.quiet import quiet

from . import answers, verification
from .block_errors import BlockJudge, Error
from .block_times import measure_blocks
from .choice import BlockTime, Choice, choose_blocks
from .errors import CalibrationError, NotWorthItError
from .held_out import divide
from .linears import MERGE, block_of
from .looking import Looking
from .options import CalibrationOptions
from .parsed_network import quantized_matmuls
from .pictures import find_pictures, questions_about
from .plot import draw_blocks
from .quantized_bundle import QuantizedGraphs, carry
from .recipes import Placement
from .record import calibration_record
from .report import Report
from .segments import SegmentRunner
from .source import exported, open_source
from .statistics import STATISTICS_NAME
from .swapping import Swap
from .thresholds import METHODS
from .timing import Timed, interleaved, open_session, runner_of

ATTEMPTS = 4
"""Times that the choice is made before the command gives up."""

WHOLE_BURSTS = 5

PLOT_NAME = "calibration.png"


def calibrate(options: CalibrationOptions) -> Report:
    """Make an INT8 bundle.

    Raises:
        CalibrationError, UsageError, BundleError, OutputExistsError: what was given cannot be used.
        NotWorthItError: no quantised graph is faster and accurate enough. Nothing is left under the output's name; the
            statistics stay beside it, for ``--resume`` with another budget.
    """
    output = options.output_folder
    refuse_existing(output, force=options.force)
    refuse_to_replace_others(output)
    with ExitStack() as stack:
        folder = options.bundle if options.model is None else stack.enter_context(exported(options))
        bundle = open_source(folder, options)
        with new_directory(output, force=options.force) as partial:
            report = Calibration(options, bundle, output, partial).run()
    options.progress_file.unlink(missing_ok=True)
    return report


class Calibration:
    """One run: what the steps hand to each other, and the steps in order."""

    def __init__(self, options: CalibrationOptions, bundle: Bundle, output: Path, folder: Path):
        self.options, self.bundle, self.output, self.folder = options, bundle, output, folder
        self.recipe = options.recipe_entry
        self.number_format = self.recipe.formats[options.number_format]
        self.seconds: dict[str, float] = {}
        self.notes: list[str] = []
        self.half = self.recipe.base == "fp16"
        self.base_answers: list[str] | None = None

    def run(self) -> Report:
        self._require_space()
        self._find_pictures()
        self._look()
        self._judge_blocks()
        self._time_blocks()
        whole = self._write_within_budget()
        self._compile()
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
        with self._step("find the pictures"):
            self.pictures = find_pictures(self.options.images)
            if self.options.questions is not None:
                self.pictures.questions = find_pictures([self.options.questions]).questions
            minimum = METHODS[self.options.method].minimum
            self.division = divide(self.pictures, self.bundle, limit=self.options.limit, minimum=minimum)
        self.judges = self.division.tiles
        if not self.division.held_out and self.number_format.activations is not None:
            self.notes.append("judged on pictures that were also calibrated on: too few were given to hold some back")

    def _look(self) -> None:
        seen = Looking(self.options, self.bundle, self.pictures, self.division, self.number_format, self._step)
        seen.smooth()
        seen.look()
        self.seen, self.notes = seen, [*self.notes, *seen.notes]
        self.graph, self.blocks, self.statistics = seen.graph, seen.blocks, seen.statistics

    def _placement(self, blocks) -> Placement:
        return Placement(self.number_format, blocks, self.ranges, {}, self.options.attention)

    def _run_fp32(self) -> None:
        """FP32's features of the judging pictures, by the file that is shipped."""
        with self._step("run the FP32 graph on the judging pictures"):
            session = open_session(self.bundle.file(self.bundle.manifest.vision.graphs[0].file))
            name = session.get_inputs()[0].name
            self.expected = [session.run(None, {name: picture})[0] for picture in self.judges]

    def _judge_blocks(self) -> None:
        self._run_fp32()
        self.ranges = {}
        if self.number_format.activations is not None:
            self.ranges = self.statistics.ranges(self.options.method)
        placed = [*self._placement(self._names).linears(self.graph), *self._placement(self._names).products(self.graph)]
        block_of_node = {node.name: block_of(node.name) for node in placed}
        swap = Swap(self.number_format, self.ranges, block_of_node, half_scales=self.recipe.half_scales)
        self.judge = BlockJudge(SegmentRunner(self.graph), swap, self.judges, self._answer_judge())
        with self._step("judge each block", len(self._names) * len(self.judges)) as advance:
            self.errors: dict[str, Error] = self.judge.each(self._names, advance)

    @property
    def _names(self) -> list[str]:
        return [block.name for block in self.blocks]

    def _answer_judge(self):
        """What the language model would say, judged block by block; None where there is none."""
        if self.bundle.manifest.decoder is None:
            return None
        questions = questions_about(self.pictures, self.division.judging, answers.DEFAULT_QUESTION)
        asked = [(picture.path, question) for picture, question in zip(self.division.judging, questions)]
        with self._step("answer on FP32's features"):
            return answers.AnswerJudge(self.bundle, asked, self.expected).share_kept

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
            gains = "" if self.times is None else " and gains time"
            raise self._not_worth_it(f"no block stays within {max_drop:.3g} points{gains}")
        return choice

    def _write_within_budget(self) -> Error:
        """Choose, write and judge the file itself, until it is within the budget."""
        graphs = QuantizedGraphs(self.bundle, self.recipe, self.seen.scales, self.judges)
        allowed = self.options.max_drop
        for _ in range(ATTEMPTS):
            with self._step("choose"):
                self.choice = self._choose(allowed)
            with self._step("write the graphs"):
                self.vision = graphs.write(self.folder, self._placement(self.choice.blocks))
            with self._step("judge the file", len(self.judges)) as advance:
                path = self.folder / self.vision.graphs[0].file
                error = verification.judge_graph(
                    path, self.judges, self.expected, half=self.half, agreement=self.judge.agreement, advance=advance
                )
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
            if self.base_answers is None:
                self.base_answers = answers.ask(self.bundle.path, asked, advance)
            carry(self.bundle, self.folder)
            write_manifest(self.folder, replace(self.bundle.manifest, vision=self.vision))
            given = answers.ask(self.folder, asked, advance)
        self.answers = answers.score(asked, self.base_answers, given)
        return self.answers.points

    def _time_whole(self) -> None:
        """The INT8 file against the FP32 file it came from, in turn: INT8 that is not faster is not handed out."""
        self.whole_times: dict[str, Timed] | None = None
        if self.recipe.base != "fp32":
            return
        base = self.bundle.file(self.bundle.manifest.vision.graphs[0].file)
        with self._step("time the whole"):
            sessions = {"base": open_session(base), "eight_bit": open_session(self.folder / self.vision.graphs[0].file)}
            found = interleaved({name: runner_of(one) for name, one in sessions.items()}, bursts=WHOLE_BURSTS)
        self.whole_times = found
        slower = found["eight_bit"].milliseconds >= found["base"].milliseconds
        if slower and self.times is not None and not self.options.all_int8:
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

    def _compile(self) -> None:
        """The compile gate: TensorRT takes each graph and reads exactly the chosen products as eight-bit ones.

        Raises:
            CalibrationError: the parsed network has other eight-bit products than were chosen.
            ExportError: TensorRT refuses a graph.
        """
        self.compiled: list[dict] = []
        if not self.half:
            return
        builder = compile_gate.available() if self.options.compile else None
        if builder is None:
            self.notes.append(
                "the graphs were not compiled: " + ("no TensorRT" if self.options.compile else "--no-compile")
            )
            return
        with self._step(f"compile with {builder}", len(self.vision.graphs)) as advance:
            for graph in self.vision.graphs:
                path = self.folder / graph.file
                if self.number_format.activations is not None:
                    self._check_parsed(quantized_matmuls(path, builder), graph.file)
                self.compiled.append({"graph": graph.file, **compile_gate.compile_graph(path, builder)})
                advance()

    def _check_parsed(self, found: dict, file: str) -> None:
        placement = self._placement(self.choice.blocks)
        chosen = {node.name for node in (*placement.linears(self.graph), *placement.products(self.graph))}
        wrong = [name for name, kinds in found.items() if all(kinds) != (name in chosen) or any(kinds) != all(kinds)]
        if wrong or not chosen <= found.keys():
            raise CalibrationError(
                f"TensorRT reads other products of {file} as eight-bit ones than were chosen",
                given=", ".join([*wrong, *(chosen - found.keys())][:5]),
                todo="report this with the checkpoint's config.json; nothing was written",
            )

    def _carry_and_plot(self) -> None:
        carry(self.bundle, self.folder)
        (self.folder / "laco.json").unlink(missing_ok=True)
        if self.number_format.activations is not None:
            self.statistics.broken |= self.pictures.broken
            self.statistics.save(self.folder / STATISTICS_NAME)
        merge_at = next((i for i, block in enumerate(self.blocks) if block.region == MERGE), None)
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
            proof = verification.golden_proof(
                self.bundle, path, self.seen.scales, self.vision.ir_version, half=self.half
            )
        tolerance = verification.tolerance_of(self.options.max_drop, error)
        accuracy = {**self.bundle.manifest.accuracy, **verification.with_tolerance(proof, tolerance), "also": {}}
        record = calibration_record(self, error)
        manifest = replace(
            self.bundle.manifest,
            tool_version=__version__,
            vision=replace(self.vision, calibration=record),
            accuracy=accuracy,
            build={"seconds": self.seconds, "compiled": self.compiled},
            notes=[*self.bundle.manifest.notes, *self.notes],
            files={},
        )
        write_manifest(self.folder, manifest)
        return Report(self.output, record, self.pictures.broken, self.notes, self.seconds)
