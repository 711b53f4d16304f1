"""``laco-calibrate``: an FP32 bundle and real pictures in, a bundle that computes in eight bits out.

laco-calibrate laco-at1_2-fp32 --images photos
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from laco_export import __version__
from laco_export.console import console, progress, run_command
from laco_export.standard_streams import print_json
from laco_export.utf8 import path_argument, restart_in_utf8


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments; nothing heavy is imported for ``--help``."""
    parser = argparse.ArgumentParser(
        prog="laco-calibrate",
        description="Make an INT8 bundle that is faster than the one it comes from and as good, or say why there is "
        "none.",
        epilog="example: laco-calibrate laco-at1_2-fp32 --images photos; "
        "two calibrations: laco-calibrate --compare A/calibration.json B/calibration.json",
    )
    parser.add_argument("--version", action="version", version=f"laco-calibrate {__version__}")
    parser.add_argument(
        "bundle", type=path_argument, nargs="?", metavar="BUNDLE", help="an FP32 bundle (laco-export --fp32)"
    )
    parser.add_argument(
        "--model", type=path_argument, metavar="CKPT", help="instead of a bundle: a checkpoint, exported first"
    )
    parser.add_argument("--at", metavar="DEPTH", help="of a bundle of several depths, or of the checkpoint")
    parser.add_argument(
        "--images",
        type=Path,
        nargs="+",
        default=[],
        metavar="PATH",
        help="real pictures: folders, files, a .txt list, or training data (.json, .jsonl)",
    )
    parser.add_argument("--questions", type=Path, metavar="JSON", help="questions to judge the answers by")
    _add_choices(parser)
    _add_runs(parser)
    return parser


def _add_choices(parser: argparse.ArgumentParser) -> None:
    """What the graph is for, and what may be lost or left out."""
    parser.add_argument(
        "--target",
        help="who will read the graph: trt10.3, trt10.14 (explicit Q/DQ) or ort-cpu (ONNX Runtime's integer kernels); "
        "default: the bundle's own",
    )
    parser.add_argument("--recipe", nargs="?", const="", help=argparse.SUPPRESS)  # the old spelling, refused by name
    parser.add_argument(
        "--method",
        default="auto",
        help="how ranges are chosen: auto (the default: mse or max, whichever is better for the block), mse, max, "
        "percentile, entropy",
    )
    parser.add_argument(
        "--max-drop",
        type=float,
        default=1.0,
        metavar="POINTS",
        help="what may be lost: 100·(1 - cosine) at the projector, and right answers in points (default: 1)",
    )
    numbers = parser.add_mutually_exclusive_group()
    numbers.add_argument("--fp8", action="store_true", help="float8_e4m3fn in place of INT8 (TensorRT)")
    numbers.add_argument("--weights-only", choices=("int8", "int4"), help="smaller weights, activations as they are")
    parser.add_argument("--all-int8", action="store_true", help="every block, whatever it costs or gains")
    parser.add_argument(
        "--portable",
        action="store_true",
        help="for ort-cpu: weights of seven bits, as fast and exact without VNNI, in one graph in the place of two",
    )
    parser.add_argument(
        "--attention",
        action="store_true",
        help="attention's MatMuls too, in blocks of at most 512 tokens (TensorRT; a merge may make it so)",
    )
    parser.add_argument("--no-smoothing", dest="smoothing", action="store_false", help="leave outlier channels alone")


def _add_runs(parser: argparse.ArgumentParser) -> None:
    """Earlier and interrupted runs, and where the result goes."""
    parser.add_argument(
        "--statistics",
        type=Path,
        nargs="+",
        default=[],
        metavar="JSON",
        help="calibration.json of earlier runs on this bundle: added up; new pictures of --images are added to them",
    )
    parser.add_argument(
        "--smoothing-of",
        type=Path,
        metavar="JSON",
        help="use the smoothing of an earlier calibration.json, so that the two can be merged",
    )
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="do not let TensorRT try the graphs")
    parser.add_argument("--limit", type=int, metavar="N", help="take so many pictures at most, evenly spaced")
    parser.add_argument("--output", type=path_argument, metavar="DIR", help="default: ./<bundle>-int8")
    parser.add_argument("--force", action="store_true", help="replace the output once the new bundle is complete")
    parser.add_argument("--resume", action="store_true", help="go on with the pictures of an interrupted run")
    parser.add_argument(
        "--compare", type=Path, nargs=2, metavar="JSON", help="show how two calibrations differ, and do nothing else"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON on stdout")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    if argv is None:
        restart_in_utf8()
    args = build_parser().parse_args(argv)
    return run_command(lambda: _dispatch(args), debug=args.debug)


def _dispatch(args: argparse.Namespace) -> None:
    if args.recipe is not None:
        _refuse_recipe(args.recipe)
    _compare(args) if args.compare else _run(args)


def _refuse_recipe(recipe: str) -> None:
    """The old spelling of ``--target``: say the new one."""
    from laco_export.errors import UsageError

    instead = {"tensorrt": "leave it out, or give --target trt10.3", "cpu": "give --target ort-cpu"}
    raise UsageError(
        "laco-calibrate has no --recipe any more: a recipe is a training recipe",
        given=f"--recipe {recipe}".strip(),
        allowed="--target trt10.3, trt10.14 or ort-cpu; without it the bundle's own",
        todo=instead.get(recipe, "give --target, or leave it out"),
    )


def _run(args: argparse.Namespace) -> None:
    from .options import CalibrationOptions
    from .refusals import check_calibration

    number_format = "fp8" if args.fp8 else {"int8": "w8", "int4": "w4", None: "int8"}[args.weights_only]
    options = CalibrationOptions(
        bundle=args.bundle,
        model=args.model,
        at=args.at,
        images=args.images,
        questions=args.questions,
        target=args.target,
        method=args.method,
        max_drop=args.max_drop,
        number_format=number_format,
        all_int8=args.all_int8,
        portable=args.portable,
        attention=args.attention,
        smoothing=args.smoothing,
        statistics=args.statistics,
        smoothing_of=args.smoothing_of,
        limit=args.limit,
        compile=args.compile,
        output=args.output,
        force=args.force,
        resume=args.resume,
    )
    check_calibration(options)
    with progress("loading PyTorch", transient=True):
        from .pipeline import calibrate
    report = calibrate(options)
    report.show(console())
    if args.json:
        print_json(report.to_json())


def _compare(args: argparse.Namespace) -> None:
    from dataclasses import asdict

    from laco_export.errors import UsageError

    from .statistics.records import Statistics, compare
    from .statistics.thresholds import AUTO, CANDIDATES, METHODS

    if args.method not in (AUTO, *METHODS):
        raise UsageError("--method is not known", given=args.method, allowed=", ".join((AUTO, *METHODS)))
    method = CANDIDATES[0] if args.method == AUTO else args.method  # no picture is at hand to choose by
    differences = compare(*(Statistics.load(path) for path in args.compare), method)
    if args.json:
        print_json([asdict(tensor) for tensor in differences])
        return
    for tensor in differences:
        reader = tensor.readers[0].rpartition("/")[0] if tensor.readers else tensor.name
        print(f"range × {tensor.ratio:.3f}  distance {tensor.distance:.3f}  {tensor.region}: {reader}")


if __name__ == "__main__":
    raise SystemExit(main())
