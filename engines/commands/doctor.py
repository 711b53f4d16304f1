"""``laco-engine doctor``: what is installed, what is missing, what would run a bundle here, and whether it fits."""

from __future__ import annotations

import argparse

from laco_export.standard_streams import print_json
from laco_export.utf8 import path_argument

from .command import Command


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "bundle", type=path_argument, nargs="?", metavar="BUNDLE", help="also: does this bundle start and fit?"
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON on stdout")


def _run(args: argparse.Namespace) -> int:
    from laco_export.bundle import open_bundle
    from laco_export.console import progress

    from ..doctor import diagnose

    bundle = None
    with progress("looking", transient=True):
        if args.bundle is not None:
            bundle = open_bundle(args.bundle)
        diagnosis = diagnose(bundle)
    if args.json:
        print_json(diagnosis.to_dict())
    else:
        print("\n".join(_lines(diagnosis)))
    return 0 if diagnosis.ready else 1


def _lines(diagnosis) -> list[str]:
    from ..packages import PACKAGES

    lines = ["machine", f"  {diagnosis.machine.summary}", *_board(diagnosis.machine.board), "packages"]
    width = max(len(package.name) for package in PACKAGES)
    for package in PACKAGES:
        version = diagnosis.packages[package.name]
        mark = version or ("MISSING" if package.needed else "-")
        lines.append(f"  {package.name:<{width}}  {mark:<14} {package.purpose}")
    lines += ["what would run", f"  vision tower    {diagnosis.vision or 'nothing can'}"]
    lines += [f"    passed over: {reason}" for reason in diagnosis.passed_over]
    language = f"{diagnosis.text_runtime} on {diagnosis.language}" if diagnosis.language else None
    lines.append(f"  language model  {language or 'nothing can: ONNX Runtime is not installed'}")
    if diagnosis.fit is not None:
        lines += _fit(diagnosis.fit)
    if diagnosis.todo:
        lines += ["to do", *(f"  {line}" for line in diagnosis.todo)]
    return [*lines, "ready" if diagnosis.ready else "not ready"]


def _board(board: dict | None) -> list[str]:
    if board is None:
        return []
    memory = f"{board['memory_bytes'] / (1 << 30):.2f} GiB" if board["memory_bytes"] else "unknown"
    clock = lambda value: f"{value:.0f} MHz" if value else "unknown"
    return [
        f"  L4T {board['l4t'] or 'unknown'}, JetPack {board['jetpack'] or 'unknown'}, memory {memory}",
        f"  power mode {board['power_mode'] or 'unknown'}, GPU at {clock(board['gpu_clock_mhz'])} of at most "
        f"{clock(board['gpu_clock_max_mhz'])}",
    ]


def _fit(fit) -> list[str]:
    from ..doctor import CACHE_POSITIONS

    mib = lambda count: f"{count / (1 << 20):,.0f} MiB"
    parts = (
        f"vision tower {mib(fit.vision_bytes)}, language model {mib(fit.decoder_bytes)}, KV cache of {CACHE_POSITIONS} "
        f"positions {mib(fit.cache_bytes)}, process {mib(fit.process_bytes)}"
    )
    verdict = {True: "fits", False: "DOES NOT FIT", None: "free memory is unknown"}[fit.fits]
    free = f" of {mib(fit.free_bytes)} free" if fit.free_bytes is not None else ""
    return ["this bundle, estimated", f"  {mib(fit.needed_bytes)}{free}: {verdict}", f"  {parts}"]


DOCTOR = Command("doctor", "what this machine has, lacks and would use", _add_arguments, _run)
