"""``laco-train price``: what merging inside the encoder costs, measured on any pictures before anything is trained."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from laco_export.console import console, progress, run_command, say
from laco_export.errors import UsageError, check_whole
from laco_export.standard_streams import print_json
from laco_export.utf8 import path_argument

_SAMPLES, _TOKENS, _MAX_BROKEN = 24, 16, 0.1
REPORT_NAME = "price.json"


def build_parser() -> argparse.ArgumentParser:
    """The options of ``laco-train price``."""
    parser = argparse.ArgumentParser(
        prog="laco-train price",
        description="Measure what merging tokens inside the encoder costs on your own pictures: operations and time of "
        "an encode, how far the projected features move, and how many greedy answers stay the same. A checkpoint with "
        "compression off gets averaging merges, so nothing needs to be trained; one that carries merges is measured "
        "against the checkpoint that it was made from.",
        epilog="example: laco-train price checkpoints/llava --images photos/ --at 1/2 1/4 --output price",
    )
    parser.add_argument("checkpoint", type=path_argument, metavar="CKPT", help="a LaCo checkpoint")
    parser.add_argument(
        "--images",
        type=path_argument,
        required=True,
        metavar="PATH",
        help="a folder, zip or tar of pictures, parquet, or conversations, whose pictures are taken",
    )
    parser.add_argument(
        "--questions",
        type=path_argument,
        metavar="FILE",
        help="conversations about pictures in --images, as recipes take them; the first question of each counts "
        "(default: every picture is to be described)",
    )
    parser.add_argument(
        "--at", nargs="+", default=[], metavar="DEPTH", help="depths (default: 1 1/2 1/4, or those that CKPT carries)"
    )
    parser.add_argument(
        "--ratio",
        nargs="+",
        metavar="R",
        help="R x R tokens become one: 2, 3 or 4 (default: 2), 2+3 for the merges of a path, or one for each depth",
    )
    parser.add_argument(
        "--reference", type=path_argument, metavar="CKPT", help="with compression off, for a CKPT that carries merges"
    )
    parser.add_argument(
        "--samples", type=int, default=_SAMPLES, metavar="N", help=f"spread over all (default: {_SAMPLES})"
    )
    parser.add_argument(
        "--tokens", type=int, default=_TOKENS, metavar="N", help=f"of an answer at most (default: {_TOKENS})"
    )
    parser.add_argument(
        "--max-broken",
        type=float,
        default=_MAX_BROKEN,
        metavar="SHARE",
        help=f"of the samples that may be unreadable or too long (default: {_MAX_BROKEN})",
    )
    parser.add_argument(
        "--output", type=path_argument, metavar="DIR", help="write price.json and a sheet of the worst pictures a depth"
    )
    parser.add_argument("--force", action="store_true", help="replace --output")
    parser.add_argument("--json", action="store_true", help="print the prices as JSON on stdout")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    arguments = build_parser().parse_args(argv)
    return run_command(lambda: _run(arguments), debug=arguments.debug)


def _run(arguments: argparse.Namespace) -> None:
    from laco_export.atomic import refuse_existing
    from laco_export.quiet import quiet_libraries

    from .price.refusals import check_subjects

    check_whole("--samples", arguments.samples)
    check_whole("--tokens", arguments.tokens)
    if not 0 <= arguments.max_broken <= 1:
        raise UsageError("--max-broken is a share", given=arguments.max_broken, allowed="0 to 1")
    check_subjects(arguments.checkpoint, arguments.reference, arguments.at, _ratio(arguments))
    if arguments.output is not None:
        refuse_existing(arguments.output, force=arguments.force)
        _refuse_other_folders(arguments.output)
    with quiet_libraries():
        if arguments.output is None:
            _price(arguments)
            return
        from laco_export.atomic import new_directory

        with new_directory(arguments.output, force=arguments.force, refuse=_refuse_other_folders) as partial:
            _price(arguments, partial)
    say(f"the report: {arguments.output}")


def _price(arguments: argparse.Namespace, folder: Path | None = None) -> None:
    """Measure and show; the report is written into ``folder``."""
    from . import processes
    from .price.samples import find_samples

    samples = find_samples(arguments.images, arguments.questions, arguments.samples)
    samples.drop_broken(arguments.max_broken)  # before any weights are read

    from .price.measurement import check_question_fits, measure_prices, steps_of
    from .price.report import price_document, price_table
    from .price.subjects import open_subjects

    subjects = open_subjects(arguments.checkpoint, arguments.reference, arguments.at, _ratio(arguments))
    samples.drop_broken(arguments.max_broken, lambda sample: check_question_fits(subjects, sample, arguments.tokens))
    if samples.dropped:
        say(f"{samples.dropped} samples cannot be used: {samples.describe_broken()}")
    if not processes.on_cpu():
        subjects.to_accelerator()
    with progress("pricing", steps_of(subjects, samples)) as advance:
        rows = measure_prices(subjects, samples, max_new_tokens=arguments.tokens, advance=advance)
    document = price_document(subjects, samples, rows)
    if folder is not None:
        _write(folder, document, rows, samples, subjects)
    if arguments.json:
        print_json(document)
    else:
        console().print(price_table(rows, is_trained=subjects.is_trained))


def _ratio(arguments: argparse.Namespace) -> str | list[str] | None:
    """One for all depths, or one for each; None takes the default."""
    return arguments.ratio and (arguments.ratio[0] if len(arguments.ratio) == 1 else arguments.ratio)


def _write(folder: Path, document: dict, rows, samples, subjects) -> None:
    from laco_export.atomic import write_json

    from .price.report import sheet_name, worst_sheet

    write_json(folder / REPORT_NAME, document)
    for row in rows[1:]:
        worst_sheet(row, samples, subjects).save(folder / sheet_name(row))


def _refuse_other_folders(folder: Path) -> None:
    """``--force`` replaces an earlier report and nothing else."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / REPORT_NAME).is_file():
        raise UsageError(
            f"the output '{folder}' is no report of this command's, so that it is not replaced",
            allowed="a name that is free, or an earlier report",
            todo="choose another --output",
        )
