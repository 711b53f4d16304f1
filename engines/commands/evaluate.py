"""``laco-engine evaluate``: a bundle or a checkpoint on the paper's benchmarks, beside the paper's rows."""

from __future__ import annotations

import argparse
from pathlib import Path

from laco_export.standard_streams import print_json
from laco_export.utf8 import path_argument

from ..evaluation.benchmarks import BENCHMARK_GROUPS
from .answer_arguments import add_machine_arguments
from .command import Command, add_depth_argument, positive

_WIDEST = 1000  # columns; the widest table has about 200


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=path_argument, metavar="BUNDLE|CKPT", help="a bundle, or a checkpoint's folder")
    add_depth_argument(parser, "its first")
    parser.add_argument(
        "--group",
        action="append",
        choices=tuple(BENCHMARK_GROUPS),
        default=[],
        help="10, 18 and 5 of the paper's benchmarks; may be repeated (all three)",
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="answers, scores and lmms-eval's files (MODEL-evaluation)"
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="local copies of the data (the hub's)")
    parser.add_argument("--limit", type=positive, metavar="N", help="questions of each task (all)")
    parser.add_argument("--processes", type=positive, metavar="N", default=1, help="which share the questions (1)")
    parser.add_argument("--frames", type=positive, metavar="N", help="frames taken of a video (the checkpoint's)")
    add_machine_arguments(parser)
    parser.add_argument("--json", action="store_true", help="the scores as JSON on stdout")


def _run(args: argparse.Namespace) -> int:
    from ..evaluation import task_files
    from ..evaluation.answer_file import check_answers_of
    from ..evaluation.evaluating import EvaluatedModel, evaluate_group

    groups = [BENCHMARK_GROUPS[name] for name in dict.fromkeys(args.group or BENCHMARK_GROUPS)]
    output = args.output or args.model.with_name(f"{args.model.resolve().name}-evaluation")
    # The cheap checks first, all before lmms-eval, which takes ten seconds and more to import.
    model = EvaluatedModel.at_path(args.model, args)
    tasks = dict.fromkeys(task for group in groups for task in group.tasks)
    every = task_files.task_data(tasks, task_files.tasks_folder())
    if args.data is not None:
        task_files.check_local(every, args.data)
    check_answers_of(output / "answers", model.identity())
    document = {}
    for group in groups:
        document = evaluate_group(model, group, output, args, every)
    if args.json:
        print_json(document)
    else:
        _print_tables(groups, document, model.title)
    return 1 if document["not_asked"] else 0


def _print_tables(groups, document: dict, title: str) -> None:
    from rich.console import Console
    from rich.markup import escape

    from ..evaluation.evaluating import group_table

    console = Console(highlight=False)
    unbounded = console.options.update(max_width=_WIDEST)
    for group in groups:
        table = group_table(group, document["groups"][group.name], title)
        console.width = max(console.width, console.measure(table, options=unbounded).maximum)  # no cell is cut off
        console.print(table)
    for why, count in document["not_asked"].items():
        console.print(f"not asked, and counted as wrong: {count} × {escape(why)}")


EVALUATE = Command("evaluate", "the paper's benchmarks, by lmms-eval", _add_arguments, _run)
