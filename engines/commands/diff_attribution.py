"""``laco-engine diff --attribute``: which part of a bundle its drift from a reference comes from."""

from __future__ import annotations

import argparse
from pathlib import Path

from laco_export.standard_streams import print_json
from laco_export.utf8 import path_argument

from .command import positive

_OPTIONS = ("reference", "questions", "plot", "max_new_tokens")
_CHANGED_SHOWN = 10


def add_attribution_arguments(parser: argparse.ArgumentParser) -> None:
    """``--attribute`` and what goes with it alone."""
    group = parser.add_argument_group("drift attributed", "each part switched to a reference's and back, alone")
    group.add_argument("--attribute", action="store_true", help="what each part of the bundle costs in answers")
    group.add_argument(
        "--reference", type=path_argument, metavar="BUNDLE", help="of the same checkpoint and depth, in FP32"
    )
    group.add_argument(
        "--questions",
        type=Path,
        metavar="FILE",
        help="about the pictures of --images: as laco-engine report takes them (default: the golden pictures)",
    )
    group.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the parts' shares as a waterfall")
    group.add_argument("--max-new-tokens", type=positive, metavar="N", help="longest answer (64)")


def refuse_without_attribute(args: argparse.Namespace) -> None:
    """Raise a UsageError for an option that only ``--attribute`` has."""
    from laco_export.errors import UsageError

    for name in _OPTIONS:
        if getattr(args, name) is not None:
            raise UsageError(f"--{name.replace('_', '-')} needs --attribute")


def attribute(args: argparse.Namespace) -> None:
    """Do it: the cheap checks first."""
    from laco_export.bundle import Bundle, open_bundle, read_manifest
    from laco_export.console import Steps, progress
    from laco_export.required_packages import require_packages

    from ..attribution.drift_questions import golden_questions, users_questions
    from ..attribution.reference import reference_at_depth

    _require_options(args)
    require_packages("onnx", "onnxruntime", *(["matplotlib"] if args.plot else []))
    asked = _questions(args)
    unverified = [Bundle(path, read_manifest(path)) for path in (args.reference, args.bundle)]
    reference_at_depth(unverified[0], unverified[1].at(args.at))
    with progress("verifying the bundles", transient=True):
        bundle, reference = open_bundle(args.bundle, args.at), open_bundle(args.reference)
    reference = reference_at_depth(reference, bundle)
    questions = golden_questions(bundle) if asked is None else users_questions(asked)

    from laco_export.quiet import quiet_libraries

    from ..attribution.attributing import attribute_drift

    with Steps().step("asking mixtures of the two", len(questions)) as advance, quiet_libraries():
        drift = attribute_drift(reference, bundle, questions, _attribution_options(args), advance)
    names = {"bundle": str(args.bundle), "reference": str(args.reference), "depth": bundle.depths[0]}
    if args.plot:
        _plot(drift, names, args.plot)
    if args.json:
        hashes = {"bundle_sha256": _sha256(bundle), "reference_sha256": _sha256(reference)}
        print_json({**names, **hashes, **drift.to_dict()})
    else:
        _print(drift, names)


def _require_options(args: argparse.Namespace) -> None:
    from laco_export.errors import UsageError

    from ..generation.text_runtime import choose_text_runtime

    if args.model is not None:
        raise UsageError(
            "--attribute takes a bundle as its reference, not a checkpoint",
            given=f"--model {args.model}",
            todo=f"laco-export --model {args.model} --fp32, then --reference with what it makes",
        )
    if args.reference is None:
        raise UsageError(
            "--attribute needs --reference: a bundle of the same checkpoint at the same depth, in FP32",
            todo="laco-export --model CKPT --at DEPTH --fp32 makes one",
        )
    if (args.images is None) != (args.questions is None):
        raise UsageError("--images and --questions go together: questions about pictures of a folder")
    if args.images is not None and len(args.images) != 1:
        raise UsageError("with --attribute, --images is one folder", given=" ".join(map(str, args.images)))
    if args.text_runtime:
        choose_text_runtime(args.text_runtime)
    if args.plot and args.plot.suffix.lower() != ".png":
        raise UsageError("--plot writes a PNG", given=args.plot, allowed="a name that ends in .png")
    if args.plot and not args.plot.absolute().parent.is_dir():
        raise UsageError("--plot names a folder that does not exist", given=args.plot)


def _questions(args: argparse.Namespace):
    from .question_file import read_questions

    return None if args.questions is None else read_questions(args.questions, args.images[0])


def _attribution_options(args: argparse.Namespace):
    from ..attribution.switched_bundle import AttributionOptions

    longest = {} if args.max_new_tokens is None else {"max_new_tokens": args.max_new_tokens}
    return AttributionOptions(
        each_block=args.blocks,
        runtime=args.runtime,
        text_runtime=args.text_runtime,
        threads=args.threads,
        **longest,
    )


def _sha256(bundle) -> str:
    return bundle.manifest_entry["sha256"]


def _plot(drift, names: dict[str, str], path: Path) -> None:
    from laco_export.charts import save_chart
    from laco_export.console import say

    from ..attribution.waterfall import draw_waterfall

    title = f"{names['bundle']} at depth {names['depth']}, beside {names['reference']}: {drift.asked} questions"
    save_chart(draw_waterfall(drift.rows, title), path)
    say(f"the waterfall: {path}")


_COLUMNS = ("part", "points", "alone", "back", "tokens", "nats", "features", "share")


def _print(drift, names: dict[str, str]) -> None:
    from rich.console import Console
    from rich.table import Table

    print(
        f"{names['bundle']} at depth {names['depth']} beside {names['reference']}: "
        f"{len(drift.changed)} of {drift.asked} answers changed"
    )
    print(f"tower in parts by {drift.judged_by}; language model on {drift.text_runtime}")
    if drift.runtime:
        print(f"the bundle runs on {drift.runtime}")
    table = Table()
    for column in _COLUMNS:
        table.add_column(column, justify="left" if column == "part" else "right", no_wrap=column == "part")
    total = drift.rows[-1].share
    for row in drift.rows:
        if row.is_total:
            table.add_section()
        table.add_row(*_cells(row.to_dict(total)))
    Console(highlight=False).print(table)
    for line in _lines(drift):
        print(line)


def _cells(row: dict) -> list[str]:
    points = lambda loss: "-" if loss is None else f"{loss['points']:.1f}"
    error, share = row["feature_error"], row["feature_share"]
    return [
        row["part"],
        points(row),
        points(row["alone"]),
        points(row["won_back"]),
        f"{row['token_points']:.1f}",
        f"{row['logprob_lost']:.4f}",
        "-" if error is None else f"{error:.2%}",
        "-" if share is None else f"{share:.0%}",
    ]


def _lines(drift) -> list[str]:
    lines = [
        "points: of 100 answers, those that change, the mean of what a part loses switched on alone and of what it "
        "wins switched back alone; tokens, nats: the same of 100 tokens, and of log-probability a token; features: "
        "relative error by the part alone; share: of the squared error"
    ]
    for answer in drift.changed[:_CHANGED_SHOWN]:
        cause = answer.cause or "several parts together"
        pictures = ", ".join(answer.question.names)
        lines.append(f"{pictures}: {answer.reference_text!r} became {answer.text!r}: {cause}")
    if len(drift.changed) > _CHANGED_SHOWN:
        lines.append(f"and {len(drift.changed) - _CHANGED_SHOWN} more, which --json lists")
    lines += [f"not asked: {name}: {reason}" for name, reason in drift.not_asked.items()]
    return [*lines, *drift.remarks]
