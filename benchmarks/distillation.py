"""What merging inside a model that reads already costs, and what healing it without labels brings back.

    python benchmarks/distillation.py run --seeds 0 1 2            # goes on where it was stopped
    python benchmarks/distillation.py report --page docs/distillation.md      # table, picture, verdict

A model is trained to read pages from a pretrained encoder and decoder: once with all tokens for the language model, as
LLaVA, once with a window of four outside the encoder, as InternVL. Then merges are put inside its encoder at three
depths, and the model is healed on pages without labels by the stage ``distil``'s losses and phases, for a tenth of the
operations; beside it stand the ordinary recipe, short and whole, and training on with labels. On a second kind of page
a symbol is the order of four signs inside a merge's window. ``docs/distillation.md`` tells what came out;
``distilling/verdict.py`` has the criteria, which were committed before the runs.

A folder (``--output``) holds for each task and seed the parts, the teachers and a JSON for each arm; what stands there
is not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path

from measured_on import measured_on
from page_rows import replace_rows

RESULTS = Path(__file__).resolve().parent / "results"
BLOCKS = 8
"""Of the encoder: 1/4, 1/2 and 1 are whole blocks."""
STEPS = {"encoder": 500, "decoder": 200, "reading": 240}


class TaskOfSeed:
    """One task and seed: every part is made once.

    Args:
        steps: of each part, as :data:`STEPS`.
    """

    def __init__(self, folder: Path, task: str, seed: int, steps: dict[str, int]):
        from distilling.tasks import TASKS

        self.folder, self.task, self.seed, self.steps, self.draw = folder, task, seed, steps, TASKS[task].draw
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, kinds: list[str]) -> None:
        """All arms of the ``kinds`` that are missing; no kinds mean all."""
        from distilling.arms import Study, arms_of

        missing = [arm for arm in arms_of(self.task) if not self._record(arm.file).exists()]
        if not (missing := [arm for arm in missing if not kinds or arm.kind in kinds]):
            return
        parts = self._parts()
        study = Study(parts, self._teachers(parts), self.seed, self.steps["reading"], self.draw)
        self._note_teachers(study)
        for arm in missing:
            self._write(arm.file, arm.name, lambda arm=arm: study.run(arm))

    def _parts(self):
        import torch
        from distilling.tasks import TASKS
        from ordering.pretraining import new_decoder, new_reader, pretrain_decoder, pretrain_encoder

        encoder = new_reader(BLOCKS).vision_model.encoder
        answers = TASKS[self.task].patch_answers
        pretrain = lambda: pretrain_encoder(
            self.seed, self.steps["encoder"], "cpu", self.draw, blocks=BLOCKS, patch_answers=answers
        )
        encoder.load_state_dict(self._kept("encoder", lambda: pretrain().state_dict()))
        torch.manual_seed(self.seed)
        decoder = new_decoder()
        make = lambda: pretrain_decoder(encoder, self.seed, self.steps["decoder"]).state_dict()
        decoder.load_state_dict(self._kept("decoder", make))
        return encoder, decoder

    def _teachers(self, parts) -> dict:
        from distilling.arms import arms_of
        from distilling.models import TEACHERS, new_model, train_from_parts

        teachers = {}
        for name in sorted({arm.teacher for arm in arms_of(self.task) if arm.teacher}):
            model = new_model(*parts, self.seed, **TEACHERS[name])

            def train(model=model, name=name) -> dict:
                curve = train_from_parts(model, self.seed, self.steps["reading"], self.draw, 100)
                self._write(f"{name}-curve", name, lambda: {"accuracy": curve[-1]["accuracy"], "curve": curve})
                return model.state_dict()

            model.load_state_dict(self._kept(name, train))
            teachers[name] = model.eval()
        return teachers

    def _note_teachers(self, study) -> None:
        """Each teacher's record: what it reads, and the operations that trained it."""
        for name in study.teachers:
            if not self._record(name).exists():
                told = json.loads(self._record(f"{name}-curve").read_text())
                cost = study.teacher_operations(name)
                curve = [{**p, "operations": cost * p["steps"] // self.steps["reading"]} for p in told["curve"]]
                record = {**told, "curve": curve, "operations": cost, "steps": self.steps["reading"]}
                self._write(name, name, lambda record=record: record, say=False)

    def _kept(self, name: str, make) -> dict:
        import torch

        file = self.folder / f"{name}.pt"
        if not file.exists():
            partial = file.with_suffix(".part")
            torch.save(make(), partial)
            os.replace(partial, file)
        return torch.load(file, weights_only=True)

    def _record(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _write(self, file: str, name: str, run, *, say: bool = True) -> None:
        from laco_export.atomic import write_json

        start, cpu = time.monotonic(), time.process_time()
        record = {"name": name, **run()}
        spent = {"seconds": round(time.monotonic() - start, 1), "cpu_seconds": round(time.process_time() - cpu, 1)}
        write_json(self._record(file), {**record, **(spent if say else {})})
        if say:
            told = f"{self.task}, seed {self.seed}: {name} reads {record['accuracy']:.1%}"
            print(f"{told} ({spent['cpu_seconds']:.0f} s of CPU time)", flush=True)


def run(arguments: argparse.Namespace) -> int:
    import torch

    torch.set_num_threads(arguments.threads)
    steps = {name: getattr(arguments, f"{name}_steps") for name in STEPS}
    for seed in arguments.seeds:
        for task in arguments.tasks:
            TaskOfSeed(arguments.output / task / f"seed-{seed}", task, seed, steps).run(arguments.kinds)
    return 0


def collect(folder: Path) -> dict[str, dict[int, dict[str, dict]]]:
    """task → seed → name → record, of what is finished."""
    from distilling.arms import arms_of
    from distilling.models import TEACHERS
    from distilling.tasks import TASKS

    results: dict[str, dict[int, dict[str, dict]]] = {}
    for task in TASKS:
        for path in sorted((folder / task).glob("seed-*")):
            files = [*TEACHERS, *(arm.file for arm in arms_of(task))]
            records = [json.loads(file.read_text()) for name in files if (file := path / f"{name}.json").exists()]
            seed = int(path.name.removeprefix("seed-"))
            if records:
                results.setdefault(task, {})[seed] = {record["name"]: record for record in records}
    return results


def report(arguments: argparse.Namespace) -> int:
    from distilling.arms import RATES, SHARE
    from distilling.pictures import draw_healing
    from distilling.verdict import healing_rows, healing_verdict

    results = collect(arguments.output)
    if not results:
        sys.exit(f"error: nothing is finished in '{arguments.output}'; run the study first")
    rows, criteria = healing_rows(results), healing_verdict(results)
    values = {
        **measured_on("torch", "transformers"),
        "encoder_blocks": BLOCKS,
        "steps": {name: getattr(arguments, f"{name}_steps") for name in STEPS},
        "learning_rates": RATES,
        "share_of_operations": SHARE,
        "results": results,
        "rows": [asdict(row) for row in rows],
        "verdict": [{"criterion": criterion, "holds": holds} for criterion, holds in criteria],
    }
    arguments.results.mkdir(parents=True, exist_ok=True)
    (arguments.results / "distillation.json").write_text(json.dumps(values, indent=1) + "\n")
    text = table(rows, criteria)
    if arguments.page:
        replace_rows(arguments.page, "distillation.json", text)
    draw_healing(results, arguments.chart)
    print(text)
    return 0


def table(rows, criteria) -> str:
    """The result as Markdown: a table a task, a line for each teacher and depth, a column for each kind of arm."""
    lines = []
    for task in dict.fromkeys(row.task for row in rows):
        lines += [*_lines_of(task, [row for row in rows if row.task == task]), ""]
    words = {True: "holds", False: "does not hold", None: "cannot be said yet"}
    return "\n".join([*lines, *(f"- {criterion}: {words[holds]}" for criterion, holds in criteria)]) + "\n"


def _lines_of(task: str, rows) -> list[str]:
    from distilling.arms import KINDS
    from distilling.verdict import READS

    kinds = [kind for kind in KINDS if any(row.kind == kind for row in rows)]
    by_place = {(row.kind, row.teacher, row.at): row for row in rows}
    lines = [f"| {' | '.join([task, 'at', *kinds, 'of T'])} |", "|---|---|" + "---:|" * (len(kinds) + 1)]
    for teacher in dict.fromkeys(row.teacher for row in rows if row.teacher):
        whole = by_place["teacher", teacher, ""]
        lines.append(f"| {teacher} | | {_read(whole)} (T) |" + " |" * len(kinds))
        for at in dict.fromkeys(row.at for row in rows if row.at):
            arms = [by_place.get((kind, "" if kind.startswith("ordinary") else teacher, at)) for kind in kinds]
            if healed := by_place.get(("distilled", teacher, at)):
                share = f"{healed.of_teacher:.3f}" if whole.accuracy >= READS else ""  # of guessing it says nothing
                lines.append(f"| | {at} | {' | '.join(_read(row) if row else '' for row in arms)} | {share} |")
    return lines


def _read(row) -> str:
    """``94.1 % ± 0.8``, with the operations over the teacher's where there are any."""
    error = "" if row.accuracy_error is None else f" ± {100 * row.accuracy_error:.1f}"
    cost = f" ({row.operations:.2f})" if row.kind not in ("teacher", "merged") else ""
    return f"{100 * row.accuracy:.1f} %{error}{cost}"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["run", "report"])
    parser.add_argument("--output", type=Path, default=Path("build/distillation"), help="default: build/distillation")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the report goes")
    parser.add_argument("--chart", type=Path, default=RESULTS / "distillation.png", help="accuracy over operations")
    parser.add_argument("--page", type=Path, help="whose table is replaced, such as docs/distillation.md")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tasks", nargs="+", default=["letters", "arrangements"])
    parser.add_argument("--kinds", nargs="+", default=[], metavar="KIND", help="some kinds of arms only")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch")
    for name, steps in STEPS.items():
        parser.add_argument(f"--{name}-steps", type=int, default=steps, help=f"default: {steps}")
    arguments = parser.parse_args(argv)
    return run(arguments) if arguments.step == "run" else report(arguments)


if __name__ == "__main__":
    sys.exit(main())
