"""``laco-engine report``: what bundles answer to one's own pictures, as one page to read and to sign."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from laco_export.standard_streams import print_json
from laco_export.utf8 import path_argument, text_argument

from .answer_arguments import add_text_runtime_argument
from .command import Command, positive

_SUFFIXES = (".html", ".htm")
_CHART = "what laco-engine plan --plot FILE.svg draws"


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "bundles", type=path_argument, nargs="+", metavar="BUNDLE", help="folders written by laco-export, of one model"
    )
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="the pictures")
    parser.add_argument(
        "--questions",
        type=Path,
        required=True,
        metavar="FILE",
        help="one question a line, asked about every picture; or .json/.jsonl with image, and question and answer or "
        "conversations",
    )
    parser.add_argument("--output", type=Path, default=Path("report.html"), metavar="FILE.html", help="(report.html)")
    parser.add_argument("--force", action="store_true", help="replace --output")
    parser.add_argument(
        "--reference", metavar="BUNDLE", help="what the others are compared with, by path or name (the first)"
    )
    parser.add_argument(
        "--at", nargs="+", default=(), metavar="DEPTH", help="of bundles with several depths these only"
    )
    parser.add_argument(
        "--attribution",
        type=Path,
        metavar="FILE.json",
        help="what laco-engine diff --attribute --json printed of one of the bundles: drawn as a waterfall",
    )
    parser.add_argument("--plan", type=Path, metavar="FILE.svg", help="what laco-engine plan --plot drew")
    parser.add_argument("--title", type=text_argument, metavar="TEXT", help="above the page")
    parser.add_argument("--max-new-tokens", type=positive, default=64, metavar="N", help="longest answer (64)")
    parser.add_argument("--max-bytes", type=positive, metavar="N", help="of the page; pictures are scaled (20,000,000)")
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="skip each bundle's peak memory")
    parser.add_argument(
        "--one-by-one",
        action="store_true",
        help="load one bundle at a time: less memory, and times that are not in turn",
    )
    parser.add_argument("--threads", type=positive, metavar="N", help="CPU threads (default: the cores there are)")
    parser.add_argument("--runtime", metavar="NAME", help="of the vision tower (default: the best that is there)")
    add_text_runtime_argument(parser)
    parser.add_argument("--json", action="store_true", help="print the page's numbers as JSON on stdout too")


def _run(args: argparse.Namespace) -> None:
    from laco_export.atomic import refuse_existing
    from laco_export.bundle import Bundle, open_bundle, read_manifest
    from laco_export.console import Steps, progress, say
    from laco_export.required_packages import require_packages

    from ..generation.text_runtime import choose_text_runtime
    from ..report.attribution_file import read_attribution
    from ..report.subjects import place_of_reference, subjects_of
    from .question_file import read_questions

    # The cheap checks first: a wrong option, path or question is reported before anything is hashed or loaded.
    _require_page(args.output)
    refuse_existing(args.output, force=args.force)
    require_packages("jinja2")
    questions = read_questions(args.questions, args.images)
    attribution = None if args.attribution is None else read_attribution(args.attribution)
    chart = None if args.plan is None else _read_chart(args.plan)
    unverified = [Bundle(path, read_manifest(path)) for path in args.bundles]
    place_of_reference(subjects_of(unverified, args.at), args.reference)
    if args.text_runtime:
        choose_text_runtime(args.text_runtime)
    with progress("verifying the bundles", transient=True):
        bundles = [open_bundle(path) for path in args.bundles]
    if attribution is not None:
        attribution.require_one_of(bundles)

    from ..report.making import ReportSource, make_report, write_page

    source = ReportSource(
        args.questions, args.images, chart=args.plan, command=shlex.join(["laco-engine", *sys.argv[1:]])
    )
    report = make_report(bundles, questions, _options(args, attribution, chart), source, Steps().step)
    write_page(args.output, report, force=args.force)
    if args.json:
        print_json(report.document)
    say(f"the report: {args.output}, {len(report.page.encode()):,} bytes")


def _require_page(path: Path) -> None:
    from laco_export.errors import UsageError

    if path.suffix.lower() not in _SUFFIXES:
        raise UsageError("--output names an HTML page", given=path, allowed="a name that ends in .html")
    if not path.absolute().parent.is_dir():
        raise UsageError("--output names a folder that does not exist", given=path)


def _read_chart(path: Path) -> str:
    """The SVG document of a chart."""
    from laco_export.errors import UsageError

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--plan '{path}' cannot be read: {error}", allowed=_CHART) from None
    if "<svg" not in text:
        raise UsageError(f"--plan '{path}' is not an SVG", allowed=_CHART)
    return text


def _options(args: argparse.Namespace, attribution, chart: str | None):
    from ..report.asking import AskingOptions
    from ..report.making import ReportOptions
    from ..report.page import PageCharts

    asking = AskingOptions(
        max_new_tokens=args.max_new_tokens,
        runtime=args.runtime,
        text_runtime=args.text_runtime,
        threads=args.threads,
        one_by_one=args.one_by_one,
    )
    chosen = {"title": args.title, "most_bytes": args.max_bytes}
    if attribution is not None:
        chosen |= {"attribution": attribution.rows, "attributed": attribution.of}
    return ReportOptions(
        depths=args.at,
        charts=PageCharts(chart),
        reference=args.reference,
        asking=asking,
        memory=args.memory,
        **{name: value for name, value in chosen.items() if value is not None},
    )


REPORT = Command("report", "one page of what bundles answer, to read and to sign", _add_arguments, _run)
