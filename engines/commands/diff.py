"""``laco-engine diff``: repeat the export's comparison, later and on any runtime."""

from __future__ import annotations

import argparse
from pathlib import Path

from laco_export.standard_streams import print_json
from laco_export.utf8 import path_argument

from .command import Command, positive


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=path_argument, metavar="BUNDLE", help="a folder written by laco-export")
    parser.add_argument("--runtime", metavar="NAME", help="the vision runtime (default: the best that is installed)")
    parser.add_argument(
        "--model", type=path_argument, metavar="CKPT", help="compare with PyTorch run now, not with its golden features"
    )
    parser.add_argument(
        "--images", type=Path, nargs="+", metavar="PATH", help="other pictures, or a folder of them; needs --model"
    )
    parser.add_argument(
        "--blocks", action="store_true", help="compare each block too (a marked graph on ONNX Runtime; needs onnx)"
    )
    parser.add_argument("--threads", type=positive, metavar="N", help="CPU threads (default: the cores at hand)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON on stdout")


def _run(args: argparse.Namespace) -> int:
    from laco_export.bundle import open_bundle
    from laco_export.console import progress
    from laco_export.errors import UsageError

    if args.images and args.model is None:
        raise UsageError("--images needs --model: the bundle holds PyTorch's features of its golden pictures alone")
    with progress("verifying the bundle", transient=True):
        bundle = open_bundle(args.bundle)
    with progress("comparing", transient=True):
        check = _check(bundle, args)
    if args.json:
        print_json(check.to_dict())
    else:
        for line in _lines(check):
            print(line)
    return 0 if check.passed else 1


def _check(bundle, args: argparse.Namespace):
    from laco_export.golden import read_golden

    from ..comparison.golden_check import GoldenCheck, check_golden, compare_features, compare_samples, pixel_values
    from ..runtimes import open_runtime

    runtime = open_runtime(bundle, name=args.runtime, threads=args.threads)
    if args.model is None and not args.blocks:
        return check_golden(bundle, runtime)
    golden = read_golden(bundle)
    names, pictures, features, samples = golden.names, golden.pictures, golden.image_features, golden.samples
    against = "PyTorch at export"
    if args.model is not None:
        from ..comparison.pytorch_reference import features_and_samples, prepared_pictures

        if args.images:
            names, pictures = prepared_pictures(bundle, args.images)
        features, samples = features_and_samples(bundle, args.model, pixel_values(bundle, pictures), samples)
        against = f"PyTorch ({args.model})"
    pixels = pixel_values(bundle, pictures)
    blocks = []
    if args.blocks:
        from ..comparison.marked_graph import boundary_tensors

        blocks = compare_samples(bundle, samples, boundary_tensors(bundle, pixels, list(samples)))
    agreements = compare_features(bundle, names, features, runtime.encode(pixels))
    return GoldenCheck(runtime.name, against, agreements, blocks)


def _lines(check) -> list[str]:
    allowed = check.worst.tolerance
    width = max(len(name) for name, _ in check.pictures)
    lines = [f"runtime  {check.runtime}", f"against  {check.against}"]
    lines.append(
        f"allowed  cosine ≥ {allowed.cosine:.7g}, norms within {allowed.norm_drift:.2g}, "
        f"max abs ≤ {allowed.max_abs * check.worst.largest:.3g}"
    )
    for block in check.blocks:
        lines.append(f"  {_mark(block)} {block.numbers()}  {block.name}")
    for name, features in check.pictures:
        lines.append(f"  {_mark(features)} {features.numbers()}  {name:<{width}}")
    if check.blocks:
        lines.append(
            "blocks: of a second graph with its block outputs marked; a runtime does not fuse across them, so its "
            "numbers can differ from the shipped graph's"
        )
    lines.append(check.summary())
    if not check.passed:
        first = check.first_failing.name
        lines.append(f"first out of tolerance: {first}")
        if not check.blocks:
            lines.append("to see in which block: laco-engine diff BUNDLE --blocks, or laco-export --bisect")
    return lines


def _mark(agreement) -> str:
    return "ok  " if agreement.within() else "FAIL"


DIFF = Command("diff", "compare a bundle with PyTorch again, on any runtime", _add_arguments, _run)
