"""The second part of a calibration: what each block costs in accuracy and gains in time, and the choice of blocks."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from laco_export.onnx_session import open_session
from laco_export.quiet import quiet

from . import answers
from .blocks.block_errors import BlockJudge, Error
from .blocks.block_times import measure_blocks
from .blocks.choice import BlockTime, Choice, choose_blocks
from .blocks.fake_quant import Swap
from .context import Run
from .errors import NotWorthItError
from .graph.linear_layers import block_of
from .graph.partial_runner import SegmentRunner
from .observation import Looking
from .quantizing import Placement
from .source.picture_set import questions_about


class Weighing:
    """Weighs every block of what was looked at.

    Attributes:
        expected: FP32's ``image_features`` of each judging picture, by the file that is shipped.
        ranges: Linear input → the range that is kept of it; empty for weights alone.
        errors: block → its error where it alone is in eight bits.
        times: block → its milliseconds; None where the target device is not here.
    """

    def __init__(self, run: Run, seen: Looking):
        self.run, self.seen = run, seen
        self.names = [block.name for block in seen.blocks]
        self.ranges: dict[str, tuple[float, float]] = {}
        if run.number_format.activations is not None:
            self.ranges = seen.statistics.ranges(run.options.method)
        self.expected = self._run_fp32()
        self.judge = self._make_judge()
        with run.steps.step("judge each block", len(self.names) * len(run.division.tiles)) as advance:
            self.errors: dict[str, Error] = self.judge.each(self.names, advance)
        self.times = self._time_blocks()

    def placement(self, blocks: Collection[str]) -> Placement:
        """The decision for ``blocks``."""
        return Placement(self.run.number_format, blocks, self.ranges, {}, self.run.options.attention)

    def nodes_of(self, blocks: Collection[str]) -> list[str]:
        """The MatMuls that are in eight bits where ``blocks`` are."""
        placement = self.placement(blocks)
        return [node.name for node in (*placement.linears(self.seen.graph), *placement.products(self.seen.graph))]

    def choose(self, max_drop: float) -> Choice:
        """The fastest set of blocks within ``max_drop`` points, or all of them where that was asked for.

        Raises:
            NotWorthItError: there is none.
        """
        if self.run.options.all_int8:
            return Choice(tuple(self.errors), self.judge.together(list(self.errors)), {})
        choice = choose_blocks(self.errors, self.times, max_drop, self.judge.together)
        if not choice.blocks:
            gains = "" if self.times is None else " and gains time"
            raise self.not_worth_it(f"no block stays within {max_drop:.3g} points{gains}")
        return choice

    def not_worth_it(self, reason: str) -> NotWorthItError:
        """The error that says so, with the worst block and what can be done."""
        options = self.run.options
        worst = max(self.errors, key=lambda name: self.errors[name].points)
        kept = options.progress_file
        hint = f"; --resume uses the statistics kept in '{kept}'" if kept.exists() else ""
        return NotWorthItError(
            f"there is no {options.number_format.upper()} graph of this model that is worth having: {reason}",
            given=f"--max-drop {options.max_drop:g}; the worst block alone is {worst}, "
            f"{self.errors[worst].points:.3g} points",
            allowed="a faster graph within the budget, or --all-int8 to have it in any case",
            todo=f"use the FP16 or FP32 bundle, allow more with --max-drop, or try another --method{hint}",
        )

    def _run_fp32(self) -> list[np.ndarray]:
        with self.run.steps.step("run the FP32 graph on the judging pictures"):
            session = open_session(self.run.base_graph)
            name = session.get_inputs()[0].name
            return [session.run(None, {name: picture})[0] for picture in self.run.division.tiles]

    def _make_judge(self) -> BlockJudge:
        of_node = {name: block_of(name) for name in self.nodes_of(self.names)}
        swap = Swap(self.run.number_format, self.ranges, of_node, half_scales=self.run.recipe.half_scales)
        return BlockJudge(SegmentRunner(self.seen.graph), swap, self.run.division.tiles, self._answer_judge())

    def _answer_judge(self):
        """What the language model would say, judged block by block; None where there is none."""
        if self.run.bundle.manifest.decoder is None:
            return None
        judging = self.run.division.judging
        questions = questions_about(self.run.pictures, judging, answers.DEFAULT_QUESTION)
        asked = [(picture.path, question) for picture, question in zip(judging, questions)]
        with self.run.steps.step("answer on FP32's features"):
            return answers.AnswerJudge(self.run.bundle, asked, self.expected).share_kept

    def _time_blocks(self) -> dict[str, BlockTime] | None:
        if self.run.half or self.run.number_format.activations is None:
            return None
        with self.run.steps.step("time each block", len(self.names)) as advance, quiet():
            return measure_blocks(
                self.seen.graph,
                self.seen.blocks,
                self.run.recipe,
                self.placement(()),
                ir_version=self.run.bundle.manifest.vision.ir_version,
                advance=advance,
            )
