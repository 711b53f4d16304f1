"""The third part of a calibration: the graph on disk, chosen again until the file itself is within the budget.

The errors of blocks were judged by torch's kernels in FP32. What is handed out is judged as it stands: its features,
the answers that it gives, and its time. Where it is worse than its blocks promised, the budget for choosing shrinks.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from laco_engines.timing import Series
from laco_export.bundle import Vision, write_manifest
from laco_export.onnx_session import open_session
from laco_export.quiet import quiet

from . import answers
from .blocks.block_errors import Error
from .blocks.block_times import time_sessions
from .blocks.choice import Choice
from .context import Run
from .quantizing.quantized_graphs import QuantizedGraphs, carry
from .sensitivity import Weighing
from .verification import judge_graph

ATTEMPTS = 4
"""Times that the choice is made before the command gives up."""


class Settling:
    """Writes the graphs into the run's folder.

    Attributes:
        choice: the blocks in eight bits.
        vision: the manifest's record of the graphs.
        error: of the file on the judging pictures.
        answers: of the new bundle beside FP32's; None where nothing could be asked.
        times: ``base`` and ``eight_bit`` as a whole; None where the target device is not here.

    Raises:
        NotWorthItError: no choice is within the budget and faster.
    """

    def __init__(self, run: Run, weighed: Weighing):
        self.run, self.weighed = run, weighed
        self.answers: answers.AnswerScore | None = None
        self._base_answers: list[str] | None = None
        self.choice, self.vision, self.error = self._settle()
        self.times = self._time_whole()

    def _settle(self) -> tuple[Choice, Vision, Error]:
        run, weighed, options = self.run, self.weighed, self.run.options
        graphs = QuantizedGraphs(run.bundle, run.recipe, weighed.seen.scales, run.division.tiles)
        allowed = options.max_drop
        for _ in range(ATTEMPTS):
            with run.steps.step("choose"):
                choice = weighed.choose(allowed)
            with run.steps.step("write the graphs"):
                vision = graphs.write(run.folder, weighed.placement(choice.blocks))
            error = self._judge(vision)
            points = max(error.points, self._ask(vision, error))
            if points <= options.max_drop or options.all_int8:
                return choice, vision, error
            allowed *= min(0.7, 0.9 * options.max_drop / points)
        raise weighed.not_worth_it(f"the graph loses {points:.3g} points even with {len(choice.blocks)} blocks")

    def _judge(self, vision: Vision) -> Error:
        run = self.run
        with run.steps.step("judge the file", len(run.division.tiles)) as advance:
            return judge_graph(
                run.folder / vision.graphs[0].file,
                run.division.tiles,
                self.weighed.expected,
                half=run.half,
                agreement=self.weighed.judge.agreement,
                advance=advance,
            )

    def _ask(self, vision: Vision, error: Error) -> float:
        """Right answers lost, in points; 0 where there is nothing to ask or nobody to answer."""
        run, asked = self.run, self.run.pictures.questions
        if run.bundle.manifest.decoder is None or not asked or not error.points < 100:
            return 0.0
        if len(asked) > run.options.ask:
            asked = [asked[i] for i in np.linspace(0, len(asked) - 1, run.options.ask).round().astype(int)]
        with run.steps.step("ask both bundles", 2 * len(asked)) as advance, quiet():
            if self._base_answers is None:
                self._base_answers = answers.ask(run.bundle.path, asked, advance)
            carry(run.bundle, run.folder)
            write_manifest(run.folder, replace(run.bundle.manifest, vision=vision))
            given = answers.ask(run.folder, asked, advance)
        self.answers = answers.score(asked, self._base_answers, given)
        left_out = len(asked) - self.answers.questions
        note = f"{left_out} of {len(asked)} questions could not be asked (picture unreadable, text too long or special)"
        if left_out and note not in run.notes:
            run.notes.append(note)
        return self.answers.points

    def _time_whole(self) -> dict[str, Series] | None:
        """The new file against the FP32 file it came from, in turn: one that is not faster is not handed out."""
        run = self.run
        if run.half:
            return None
        files = {"base": run.base_graph, "eight_bit": run.folder / self.vision.graphs[0].file}
        with run.steps.step("time the whole"):
            series = time_sessions({name: open_session(file) for name, file in files.items()})
        base, eight_bit = (series[name].quantile(0.5) for name in files)
        if eight_bit >= base and self.weighed.times is not None and not run.options.all_int8:
            raise self.weighed.not_worth_it(f"the whole is not faster: {eight_bit:.1f} ms against {base:.1f} ms")
        return series
