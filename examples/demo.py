"""From nothing to answered pictures: train the tiny recipe, export it, and ask PyTorch and both bundles.

    python examples/demo.py [--output build/demo] [--seed 0]

Runs the commands that a user would type (they are printed), then asks all held-out questions of the PyTorch model and
of the FP32 and FP16 bundles. Leaves answers.json (all of them), answers.png (a sample to look at), report.html (both
bundles on a page, over some questions) and summary.json. Exits with 1 when an FP32 answer differs from PyTorch's.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

AIM, AIM_PER_KIND, LOOKS = 0.90, 0.80, 0.40
"""Accuracy over all questions and in each kind; how much lower each kind must be with shuffled pictures."""
SHOWN_PER_KIND, REPORTED_PER_KIND = 4, 10


@dataclass(frozen=True)
class Row:
    """One held-out question: PyTorch's answer and the bundles'.

    Attributes:
        milliseconds: of the FP16 bundle, from the picture file to the last token.
        margin: where the FP16 bundle's answer is another than the FP32 bundle's: how far the FP32 bundle's two best
            tokens lie apart (logits) at the first token that differs.
    """

    id: str
    kind: str
    picture: str
    question: str
    truth: str
    pytorch: str
    fp32: str
    fp16: str
    milliseconds: float
    margin: float | None


def run(*command: str | Path) -> None:
    """Run one of the project's commands as a user would, from the environment of this Python."""
    name, *arguments = (str(part) for part in command)
    print(f"\n$ {shlex.join([name, *arguments])}", flush=True)
    result = subprocess.run([Path(sys.executable).parent / name, *arguments], check=False)
    if result.returncode:
        sys.exit(result.returncode)


def ask_everyone(training: Path, fp32: Path, fp16: Path) -> list[Row]:
    """Every held-out question to the PyTorch model and to both bundles, greedily."""
    from laco_engines.answering import Answerer
    from laco_export.bundle import open_bundle
    from laco_export.console import progress
    from laco_export.models import checkpoint
    from laco_training.data import image_names, read_entries
    from laco_training.evaluation import answer_questions

    data = training / "data"
    entries = read_entries(data / "heldout.json")
    loaded = checkpoint.load(training / "checkpoint")
    pictures = [tuple(image_names(entry)) for entry in entries]
    with progress("asking PyTorch"):
        answers = answer_questions(loaded.model, loaded.processor, data, entries, pictures)
    answerers = [Answerer(open_bundle(folder)) for folder in (fp32, fp16)]
    rows = []
    with progress("asking the bundles", len(answers)) as advance:
        for answer in answers:
            files = [data / name for name in answer.images]
            exact = answerers[0].answer(files, answer.question, output_scores=True)
            start = time.perf_counter()
            half = answerers[1].answer(files, answer.question)
            milliseconds = 1000 * (time.perf_counter() - start)
            rows.append(
                Row(
                    answer.id,
                    answer.kind,
                    answer.images[0],
                    answer.question,
                    answer.truth,
                    answer.answer,
                    exact.text,
                    half.text,
                    milliseconds,
                    first_margin(exact, half),
                )
            )
            advance()
    return rows


def first_margin(exact, half) -> float | None:
    """The FP32 bundle's margin at the first token where the FP16 bundle chose another; None where none differs."""
    for step, (ours, theirs) in enumerate(zip(exact.token_ids, half.token_ids, strict=False)):
        if ours != theirs:
            return exact.scores[step].margin
    return None


def summarise(rows: list[Row], evaluation: dict) -> dict:
    """Accuracy by kind of PyTorch (also with shuffled pictures) and of the bundles, and where the bundles differ."""
    by_kind: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_kind[row.kind].append(row)
    share = lambda rows, who: sum(getattr(row, who) == row.truth for row in rows) / len(rows)
    kinds = {
        kind: {
            "questions": len(members),
            **{who: share(members, who) for who in ("pytorch", "fp32", "fp16")},
            "pytorch_shuffled": evaluation["kinds"][kind]["shuffled"],
        }
        for kind, members in sorted(by_kind.items())
    }
    return {
        "questions": len(rows),
        **{who: share(rows, who) for who in ("pytorch", "fp32", "fp16")},
        "pytorch_shuffled": evaluation["shuffled"],
        "kinds": kinds,
        "fp32_differs": [row.id for row in rows if row.fp32 != row.pytorch],
        "fp16_differs": [
            {"id": row.id, "fp32": row.fp32, "fp16": row.fp16, "margin": row.margin}
            for row in rows
            if row.fp16 != row.fp32
        ],
        "median_milliseconds": sorted(row.milliseconds for row in rows)[len(rows) // 2],
    }


def print_tables(shown: list[Row], summary: dict) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 140)
    table = Table(title="held-out pictures (a sample; all are in answers.json)")
    for name in ("picture", "question", "PyTorch", "bundle FP16", "truth"):
        table.add_column(name, overflow="fold")
    table.add_column("ms", justify="right")
    for row in shown:
        colour = "green" if row.fp16 == row.truth else "red"
        answer = f"[{colour}]{row.fp16}[/]"
        table.add_row(row.picture, row.question, row.pytorch, answer, row.truth, f"{row.milliseconds:.0f}")
    console.print(table)
    totals = Table(title=f"{summary['questions']} held-out questions: share of right answers")
    for name in ("kind", "questions", "PyTorch", "bundle FP32", "bundle FP16", "PyTorch, pictures shuffled"):
        totals.add_column(name, justify="left" if name == "kind" else "right")
    for kind, values in [*summary["kinds"].items(), ("all", summary)]:
        shares = [values[who] for who in ("pytorch", "fp32", "fp16", "pytorch_shuffled")]
        totals.add_row(kind, str(values["questions"]), *(f"{share:.1%}" for share in shares))
    console.print(totals)
    same = summary["questions"] - len(summary["fp32_differs"])
    console.print(f"FP32 bundle: {same} of {summary['questions']} answers are PyTorch's.")
    for entry in summary["fp16_differs"]:
        console.print(
            f"FP16 differs at {entry['id']}: {entry['fp16']!r} for {entry['fp32']!r}, margin {entry['margin']}"
        )
    if not summary["fp16_differs"]:
        console.print("FP16 bundle: every answer is the FP32 bundle's.")
    for problem in shortfalls(summary):
        console.print(f"[yellow]below the recipe's aim:[/] {problem}")


def shortfalls(summary: dict) -> list[str]:
    """What misses the recipe's aims, in words."""
    problems = [] if summary["pytorch"] >= AIM else [f"{summary['pytorch']:.1%} right of all, aim {AIM:.0%}"]
    for kind, values in summary["kinds"].items():
        if values["pytorch"] < AIM_PER_KIND:
            problems.append(f"{kind}: {values['pytorch']:.1%} right, aim {AIM_PER_KIND:.0%}")
        if values["pytorch"] - values["pytorch_shuffled"] < LOOKS:
            problems.append(f"{kind}: only {values['pytorch'] - values['pytorch_shuffled']:.1%} lower when shuffled")
    return problems


def start_afresh(output: Path) -> None:
    """Remove what an earlier demo left; a folder that no demo made is never touched."""
    marker = output / ".laco-demo"
    if output.exists() and not marker.exists() and any(output.iterdir()):
        sys.exit(f"error: '{output}' was not made by this demo; choose another --output")
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    marker.touch()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("build/demo"),
        help="an earlier demo there is replaced (default: build/demo)",
    )
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is fetched from a hub
    output, start = arguments.output, time.monotonic()
    start_afresh(output)
    training, bundles = output / "training", {name: output / f"laco-tiny-at1_2-{name}" for name in ("fp32", "fp16")}
    run("laco-train", "--recipe", "tiny", "--output", training, "--seed", str(arguments.seed))
    for precision, folder in bundles.items():
        run("laco-export", "--model", training / "checkpoint", "--at", "1/2", f"--{precision}", "--output", folder)
    from laco_export.quiet import quiet_libraries

    print(flush=True)
    with quiet_libraries():
        rows = ask_everyone(training, bundles["fp32"], bundles["fp16"])
    summary = summarise(rows, json.loads((training / "training.json").read_text())["evaluation"])
    summary["seconds"] = round(time.monotonic() - start, 1)
    by_kind: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_kind[row.kind].append(row)
    shown = [row for members in by_kind.values() for row in members[:SHOWN_PER_KIND]]
    (output / "answers.json").write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    (output / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    draw_answers(shown, training / "data").save(output / "answers.png")
    question = ["laco-engine", "run", bundles["fp16"], "--image", training / "data" / shown[0].picture]
    run(*question, "--question", shown[0].question)
    report_on(bundles, training / "data", by_kind, output)
    print()
    print_tables(shown, summary)
    print(f"\nlook at {output / 'answers.png'} and {output / 'report.html'}; {summary['seconds']:.0f} s in all")
    return 1 if summary["fp32_differs"] else 0


def report_on(bundles: dict[str, Path], data: Path, by_kind: dict[str, list[Row]], output: Path) -> None:
    """Both bundles on one page, over some questions of each kind."""
    rows = [row for members in by_kind.values() for row in members[:REPORTED_PER_KIND]]
    questions = [
        {"id": row.id, "kind": row.kind, "image": row.picture, "question": row.question, "answer": row.truth}
        for row in rows
    ]
    (output / "questions.json").write_text(json.dumps(questions, indent=1) + "\n")
    title = ("--title", "The demo's bundles on held-out pictures")
    asked = ("--images", data, "--questions", output / "questions.json")
    run("laco-engine", "report", *bundles.values(), *asked, *title, "--output", output / "report.html")


def draw_answers(rows: list[Row], folder: Path):
    """Pictures of ``folder`` with the FP16 bundle's answers, as one picture."""
    from laco_export.contact_sheet import answer_cell, draw_sheet
    from laco_export.preprocessing import load_image

    return draw_sheet([answer_cell(load_image(folder / r.picture), r.question, r.fp16, r.truth) for r in rows])


if __name__ == "__main__":
    sys.exit(main())
