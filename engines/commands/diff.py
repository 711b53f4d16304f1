"""``laco-engine diff``: compare each part of a bundle with PyTorch again, later and on any runtime."""

from __future__ import annotations

import argparse
from pathlib import Path

from laco_export.standard_streams import print_json
from laco_export.utf8 import path_argument

from .answer_arguments import add_text_runtime_argument
from .command import Command, add_depth_argument, positive
from .diff_attribution import add_attribution_arguments, attribute, refuse_without_attribute


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=path_argument, metavar="BUNDLE", help="a folder written by laco-export")
    add_depth_argument(parser, "all that it carries")
    parser.add_argument("--runtime", metavar="NAME", help="the vision runtime (default: the best that is installed)")
    add_text_runtime_argument(parser)
    parser.add_argument(
        "--model", type=path_argument, metavar="CKPT", help="compare with PyTorch run now, not with its golden features"
    )
    parser.add_argument(
        "--images",
        type=Path,
        nargs="+",
        metavar="PATH",
        help="other pictures, or a folder of them; needs --model, or --attribute with --questions",
    )
    parser.add_argument(
        "--blocks",
        action="store_true",
        help="compare each block too (a marked graph on ONNX Runtime; needs onnx); with --attribute: each is a part",
    )
    parser.add_argument("--threads", type=positive, metavar="N", help="CPU threads (default: the cores at hand)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON on stdout")
    add_attribution_arguments(parser)


def _run(args: argparse.Namespace) -> int:
    from laco_export.bundle import open_bundle
    from laco_export.console import progress
    from laco_export.errors import UsageError

    from ..generation.text_runtime import choose_text_runtime

    if args.attribute:
        return attribute(args)
    refuse_without_attribute(args)
    if args.images and args.model is None:
        raise UsageError("--images needs --model: the bundle holds PyTorch's features of its golden pictures alone")
    if args.text_runtime:
        choose_text_runtime(args.text_runtime)
    with progress("verifying the bundle", transient=True):
        bundle = open_bundle(args.bundle, args.at)
    with progress("comparing", transient=True):
        from ..bundle_check import check_depths

        checks = check_depths(
            bundle,
            runtime=args.runtime,
            text_runtime=args.text_runtime,
            threads=args.threads,
            checkpoint=args.model,
            images=args.images,
            blocks=args.blocks,
        )
    passed = all(check.passed for check in checks.values())
    if args.json:
        documents = {depth: check.to_dict() for depth, check in checks.items()}
        print_json({"passed": passed, "depths": documents} if len(documents) > 1 else documents.popitem()[1])
        return 0 if passed else 1
    for depth, check in checks.items():
        for line in [f"depth {depth}"] * (len(checks) > 1) + _lines(check):
            print(line)
    return 0 if passed else 1


def _lines(check) -> list[str]:
    tower = check.tower
    allowed = tower.worst.tolerance
    width = max(len(name) for name, _ in tower.pictures)
    lines = [f"runtime  {tower.runtime}", f"against  {tower.against}", "vision tower and projector"]
    lines.append(
        f"  allowed  cosine ≥ {allowed.cosine:.7g}, norms within {allowed.norm_drift:.2g}, "
        f"max abs ≤ {allowed.max_abs * tower.worst.largest:.3g}"
    )
    for block in tower.blocks:
        lines.append(f"  {_mark(block)} {block.numbers()}  {block.name}")
    for name, features in tower.pictures:
        lines.append(f"  {_mark(features)} {features.numbers()}  {name:<{width}}")
    if tower.blocks:
        lines.append(
            "  blocks: of a second graph with its block outputs marked; a runtime does not fuse across them, so its "
            "numbers can differ from the shipped graph's"
        )
    if check.parts:
        on = f" on {check.text_runtime}" if check.text_runtime else ""
        lines += [f"language model and answers{on}", *(part.line() for part in check.parts)]
    lines += [f"not compared: {reason}" for reason in check.not_compared]
    lines.append(tower.summary())
    if not check.passed:
        lines.append(f"first out of tolerance: {check.first_failing}")
        if not tower.passed and not tower.blocks:
            lines.append("to see in which block: laco-engine diff BUNDLE --blocks, or laco-export --bisect")
    return lines


def _mark(agreement) -> str:
    return "ok  " if agreement.within() else "FAIL"


DIFF = Command("diff", "compare a bundle with PyTorch again, on any runtime", _add_arguments, _run)
