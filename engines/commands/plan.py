"""``laco-engine plan``: which depth, precision, batch and language model keep a time, a memory and the answers."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from laco_export.standard_streams import print_json
from laco_export.utf8 import path_argument

from ..devices.profiles import PROFILES
from .answer_arguments import add_text_runtime_argument
from .command import Command, positive
from .quantities import points_limit, size_limit, time_limit

_WIDTH = 160
_SHOWN = 8
"""Failing ones that are listed with their reasons; ``--json`` has all."""
_PLOTS = (".png", ".svg")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "bundles", type=path_argument, nargs="+", metavar="BUNDLE", help="folders of one model, with all their depths"
    )
    limits = parser.add_argument_group("limits", "what is chosen keeps all that are given")
    limits.add_argument("--budget", type=time_limit, metavar="TIME", help="the median of a time, as 150ms or 1.5s")
    limits.add_argument(
        "--of",
        default="first-token",
        metavar="WHAT",
        help="of what the budget is: first-token (default), encode, answer:N of N tokens",
    )
    limits.add_argument("--memory", type=size_limit, metavar="SIZE", help="of the process at its peak, as 2.5G")
    limits.add_argument(
        "--max-drop", type=points_limit, metavar="POINTS", help="of answers, in hundredths, or of a benchmark's result"
    )
    answers = parser.add_argument_group("answers", "what each bundle's answers are judged by; nothing is assumed")
    source = answers.add_mutually_exclusive_group()
    source.add_argument(
        "--questions", type=Path, metavar="FILE", help="asked about pictures of --images, on this machine"
    )
    source.add_argument("--benchmark", type=Path, metavar="JSON", help='results: {"bundle": 71.3, "other@1/2": 70.9}')
    source.add_argument("--calibrated", action="store_true", help="what each calibration's own questions found changed")
    answers.add_argument("--images", type=Path, metavar="DIR", help="where the questions' pictures lie")
    answers.add_argument("--reference", metavar="BUNDLE", help="whose answers are to be kept (the first bundle's)")
    parser.add_argument("--device", metavar="NAME", help=f"elsewhere, predicted: {', '.join(PROFILES)} (default: here)")
    parser.add_argument(
        "--prefer",
        metavar="WHAT",
        help="of what keeps the limits: answers (the default where they are known), time or memory",
    )
    parser.add_argument("--pictures", type=positive, default=1, metavar="N", help="of one question (1)")
    parser.add_argument("--batch", type=positive, nargs="+", default=[], metavar="N", help="batch sizes to try (all)")
    parser.add_argument(
        "--threads", type=positive, nargs="+", default=[], metavar="N", help="to try (powers of two up to the cores)"
    )
    parser.add_argument("--runtime", metavar="NAME", help="of the vision tower (the best that is there)")
    add_text_runtime_argument(parser)
    parser.add_argument("--repeats", type=positive, default=10, metavar="N", help="samples of each (10)")
    parser.add_argument("--warmup", type=int, default=2, metavar="N", help="runs before the first sample (2)")
    parser.add_argument("--fresh", action="store_true", help="measure again what was measured before")
    parser.add_argument("--json", action="store_true", help="print everything as JSON on stdout")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw time against answers, as .png or .svg")


def _run(args: argparse.Namespace) -> None:
    from laco_export.bundle import open_bundle
    from laco_export.console import progress

    from ..plan.planner import plan_bundles

    options, questions = _checked(args)
    with progress("verifying the bundles", transient=True) as advance:
        bundles = {str(path): open_bundle(path) for path in args.bundles}
        tell = partial(advance, 0)
        plan = plan_bundles(bundles, options, partial(_quality, args, questions, tell), advance=tell)
    if args.json:
        print_json(plan.to_dict())
    else:
        _show(plan)
    if args.plot:
        from laco_export.charts import save_chart

        from ..plan.pareto import draw_plan

        save_chart(draw_plan(plan), args.plot)
    if plan.choice is None:
        raise plan.refusal()


def _checked(args: argparse.Namespace):
    """The options and the questions; whatever manifests and names can tell to be wrong is refused here."""
    from laco_export.bundle import Bundle, read_manifest
    from laco_export.errors import UsageError

    from ..generation.text_runtime import choose_text_runtime
    from ..plan.limits import Limits, Quantity
    from ..plan.planner import PlanOptions, models_to_plan, require_quality

    options = PlanOptions(
        limits=Limits(args.budget, args.memory, args.max_drop),
        quantity=Quantity.parse(args.of),
        device=args.device,
        prefer=args.prefer,
        pictures=args.pictures,
        batches=tuple(args.batch),
        threads=tuple(args.threads),
        runtime=args.runtime,
        text_runtime=args.text_runtime,
        repeats=args.repeats,
        warmup=args.warmup,
        fresh=args.fresh,
    )
    if args.text_runtime:
        choose_text_runtime(args.text_runtime)
    _check_plot(args.plot)
    if (args.questions is None) != (args.images is None):
        raise UsageError("--questions and --images belong together", todo="give both: --questions FILE --images DIR")
    if twice := sorted({str(path) for path in args.bundles if args.bundles.count(path) > 1}):
        raise UsageError("a bundle was given twice", given=", ".join(twice))
    unverified = {str(path): Bundle(path, read_manifest(path)) for path in args.bundles}
    models, _ = models_to_plan(unverified, options)
    questions = []
    if args.questions is not None:
        from .question_file import read_questions

        questions = read_questions(args.questions, args.images)
    require_quality(options, _quality(args, questions, print, models))
    return options, questions


def _check_plot(path: Path | None) -> None:
    from laco_export.errors import UsageError

    if path is None:
        return
    if path.suffix.lower() not in _PLOTS:
        raise UsageError("--plot writes a PNG or an SVG", given=path, allowed="a name that ends in .png or .svg")
    if not path.absolute().parent.is_dir():
        raise UsageError("--plot names a folder that does not exist", given=path)


def _quality(args: argparse.Namespace, questions, advance, models):
    """The one source of points lost that was named, or None."""
    from ..plan.quality import AskedAnswers, BenchmarkScores, CalibrationRecords, choose_reference

    reference = choose_reference(models, args.reference)
    if questions:
        runtimes = {"runtime": args.runtime, "text_runtime": args.text_runtime}
        return AskedAnswers(reference, questions, **runtimes, advance=advance)
    if args.benchmark is not None:
        return BenchmarkScores(args.benchmark, reference, models)
    return CalibrationRecords(reference) if args.calibrated else None


def _show(plan) -> None:
    from rich.console import Console

    from ..plan.verdict import parts_in_words, reasons

    # Without a terminal Rich would wrap at 80 columns: the table is for a file then, or another program.
    out = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH, soft_wrap=False)
    say = partial(out.print, markup=False)
    say(plan.device)
    asked = f", {plan.asked} answers asked for" if plan.asked else ""
    say(f"{plan.space} candidates, {plan.measured} measured now{asked}; {plan.preference}")
    for note in plan.notes:
        say(f"note: {note}")
    if plan.quality is None:
        say("nothing is known of answers: whether a faster choice answers worse is not part of this plan")
    else:
        say(f"points lost: {plan.quality}")
    out.print(_table(plan))
    if plan.choice is not None:
        say(f"choice: {plan.choice.candidate}: {parts_in_words(plan.choice)}")
    if plan.failing:
        say("could be better, and fails:" if plan.choice is not None else "none fits, the nearest first:")
        for each in plan.failing[:_SHOWN]:
            say(f"  {each.candidate}: {reasons(each)}")
        if len(plan.failing) > _SHOWN:
            say(f"  and {len(plan.failing) - _SHOWN} more (--json)")
    for line in plan.commands():
        out.print(f"  {line}", markup=False, soft_wrap=True)


_COLUMNS = (
    "",
    "bundle",
    "depth",
    "vision",
    "LLM",
    "vocabulary",
    "batch",
    "threads",
    "time",
    "known",
    "memory",
    "points lost",
)
_WORDS = ("", "bundle", "vision", "LLM", "known")


def _table(plan):
    """Each model by the best way to run it."""
    from rich.table import Table

    from ..plan.verdict import by_model, in_gibibytes, in_milliseconds, in_points, in_words

    table = Table(title=f"{plan.quantity}, by model", title_justify="left")
    for column in _COLUMNS:
        table.add_column(column, justify="left" if column in _WORDS else "right", overflow="fold")
    for each in by_model(plan.assessed):
        model = each.candidate.model
        memory = in_words(each.memory, in_gibibytes) if each.memory.is_known else f"~{in_gibibytes(each.memory.value)}"
        table.add_row(
            "=>" if plan.choice is not None and each.candidate is plan.choice.candidate else "",
            str(model.bundle.path),
            model.depth,
            model.precision,
            model.language_model or "-",
            f"{model.vocabulary:,}" if model.vocabulary else "-",
            str(each.candidate.batch),
            str(each.candidate.threads or "-"),
            in_words(each.time, in_milliseconds),
            each.time.source,
            memory,
            "-" if each.drop is None else in_words(each.drop, in_points) if each.drop.is_known else "not asked",
        )
    return table


PLAN = Command("plan", "choose depth, precision, batch and language model for given limits", _add_arguments, _run)
