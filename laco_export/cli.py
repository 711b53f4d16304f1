"""``laco-export``: a checkpoint in, a proven bundle out.

laco-export --model CKPT --at 1/2 --fp16
"""

from __future__ import annotations

import argparse
import errno
from collections.abc import Sequence
from pathlib import Path

from . import __version__
from .console import console, progress, run_command
from .standard_streams import print_json
from .utf8 import path_argument, restart_in_utf8


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments; nothing heavy is imported for ``--help``."""
    parser = argparse.ArgumentParser(
        prog="laco-export",
        description="Export a LaCo checkpoint as a bundle: a static ONNX vision graph proven against PyTorch, "
        "the decoder, and everything needed to run them.",
        epilog="example: laco-export --model checkpoints/laco --at 1/2 --fp16",
    )
    parser.add_argument("--version", action="version", version=f"laco-export {__version__}")
    parser.add_argument("--model", type=path_argument, required=True, metavar="CKPT", help="the checkpoint's folder")
    parser.add_argument(
        "--at",
        nargs="+",
        metavar="DEPTH",
        help="a depth that the checkpoint carries: 1/2, block:7, 1/4+3/4 (default: its first); several, or all, make "
        "one bundle of them, used at the first where no depth is named",
    )
    precision = parser.add_mutually_exclusive_group()
    for name, text in (
        ("fp16", "half-precision vision graph (the default; --target ort-cpu takes FP32 alone)"),
        ("bf16", "bfloat16 vision graph"),
        ("fp32", "full-precision vision graph"),
    ):
        precision.add_argument(f"--{name}", dest="precision", action="store_const", const=name, help=text)
    parser.add_argument(
        "--target", default="trt10.3", help="who reads the graph: trt10.3 (JetPack 6; the default), trt10.14, ort-cpu"
    )
    parser.add_argument(
        "--batch", type=int, nargs="+", default=[1], metavar="N", help="batch sizes, one graph each (1 is always made)"
    )
    parser.add_argument("--output", type=path_argument, metavar="DIR", help="default: ./<checkpoint>-at1_2-fp16")
    parser.add_argument("--force", action="store_true", help="replace an old bundle once the new one is complete")
    parser.add_argument(
        "--images",
        type=Path,
        nargs="+",
        default=[],
        metavar="PATH",
        help="pictures, or a folder of them, to measure ranges and compare on (default: four drawn ones)",
    )
    parser.add_argument(
        "--llm",
        metavar="PRECISION",
        default="fp32",
        help="of the language model: fp32 (default), fp16, int8 or int4 weights",
    )
    parser.add_argument("--no-llm", dest="llm", action="store_const", const=None, help="leave the decoder out")
    parser.add_argument(
        "--llm-texts",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="text like what the language model will read and write: int4 is rounded over one half of it and every "
        "precision below fp32 judged on the other (default: a few pages of the package's own)",
    )
    parser.add_argument(
        "--vocabulary",
        type=Path,
        nargs="+",
        default=[],
        metavar="PATH",
        help="let the language model's head keep the rows of these texts' tokens, single bytes and special tokens, so "
        "that an answer's token reads fewer bytes: texts, JSON lines, folders, or a JSON list of tokens",
    )
    parser.add_argument(
        "--vocabulary-size",
        type=int,
        metavar="N",
        help="keep so many: the texts' most frequent first, then in the tokenizer's order (default: all of the texts')",
    )
    parser.add_argument(
        "--max-kl",
        type=float,
        metavar="NATS",
        help="nats a token that a narrow language model may differ from the given one in the mean (default: 0.15)",
    )
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="skip the build by TensorRT")
    parser.add_argument(
        "--bisect", action="store_true", help="write the errors by block beside the output; name the first that drifts"
    )
    parser.add_argument("--opset", type=int, help="default: the newest that the target reads")
    parser.add_argument("--json", action="store_true", help="print the result as JSON on stdout")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    if argv is None:
        restart_in_utf8()
    args = build_parser().parse_args(argv)
    return run_command(lambda: _run(args), debug=args.debug)


def _run(args: argparse.Namespace) -> None:
    from .exporter.options import ExportOptions
    from .exporter.refusals import check_export

    options = ExportOptions(
        model=args.model,
        at=args.at,
        target=args.target,
        precision=args.precision,
        batches=tuple(args.batch),
        output=args.output,
        force=args.force,
        images=args.images,
        llm=args.llm,
        llm_texts=args.llm_texts,
        vocabulary=args.vocabulary,
        vocabulary_size=args.vocabulary_size,
        max_kl=args.max_kl,
        compile=args.compile,
        bisect=args.bisect,
        opset=args.opset,
    )
    check_export(options)
    with progress("loading PyTorch and transformers", transient=True):
        from . import models  # noqa: F401 - brings transformers, which looks for them
        from .exporter.pipeline import export_bundle
    try:
        report = export_bundle(options, _try_bundle)
    except Exception as error:
        raise (_disk_error(error) or error) from None if args.debug is False else error
    report.show(console())
    if args.json:
        print_json(report.to_json())


def _try_bundle(folder: Path) -> dict:
    """Ask the finished bundle what it will be asked. What opens bundles stands above the exporter and below this."""
    from laco_engines.trial import try_bundle

    return try_bundle(folder)


def _disk_error(error: BaseException | None) -> OSError | None:
    """The full disk behind another library's exception, if that is what it was."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return error
        error = error.__cause__ or error.__context__
    return None


if __name__ == "__main__":
    raise SystemExit(main())
