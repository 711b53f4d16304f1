"""``laco-engine bench``: bundles measured beside each other, each latency with the floor under it."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from laco_export.standard_streams import print_json
from laco_export.utf8 import path_argument

from .answer_arguments import add_text_runtime_argument
from .command import Command, positive

WIDTH = 160


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "bundles", type=path_argument, nargs="+", metavar="BUNDLE", help="folders written by laco-export"
    )
    parser.add_argument(
        "--batch", type=positive, nargs="+", default=[], metavar="N", help="pictures a call (default: the bundle's own)"
    )
    parser.add_argument(
        "--at", nargs="+", default=[], metavar="DEPTH", help="of bundles of several depths (default: all of each)"
    )
    parser.add_argument(
        "--runtime", metavar="NAME", help="tensorrt, tensorrt-rtx, onnxruntime, onnxruntime-cuda, … (default: the best)"
    )
    add_text_runtime_argument(parser)
    parser.add_argument("--repeats", type=positive, default=20, metavar="N", help="samples of each (default 20)")
    parser.add_argument("--warmup", type=int, default=3, metavar="N", help="runs before the first sample (default 3)")
    parser.add_argument("--threads", type=positive, metavar="N", help="CPU threads (default: the cores there are)")
    parser.add_argument("--new-tokens", type=positive, default=32, metavar="N", help="of each answer (default 32)")
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="skip each bundle's peak memory")
    parser.add_argument("--no-llm", dest="llm", action="store_false", help="measure the vision tower alone")
    parser.add_argument("--json", action="store_true", help="print everything as JSON on stdout")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw encode time by depth")


def _run(args: argparse.Namespace) -> None:
    from laco_export.bundle import open_bundle
    from laco_export.console import progress
    from laco_export.errors import UsageError

    from ..bench.measure import BenchOptions, run_bench
    from ..generation.text_runtime import choose_text_runtime

    options = BenchOptions(
        batches=tuple(args.batch),
        at=tuple(args.at),
        runtime=args.runtime,
        text_runtime=args.text_runtime,
        repeats=args.repeats,
        warmup=args.warmup,
        threads=args.threads,
        llm=args.llm,
        new_tokens=args.new_tokens,
        memory=args.memory,
    )
    if args.text_runtime:
        choose_text_runtime(args.text_runtime)
    if args.plot and args.plot.suffix.lower() != ".png":
        raise UsageError("--plot writes a PNG", given=args.plot, allowed="a name that ends in .png")
    if args.plot and not args.plot.absolute().parent.is_dir():
        raise UsageError("--plot names a folder that does not exist", given=args.plot)
    with progress("verifying the bundles", transient=True) as advance:
        bundles = [open_bundle(path) for path in args.bundles]
        report = run_bench(bundles, options, advance=partial(advance, 0))
    if args.json:
        print_json(report.to_dict())
    else:
        _show(report)
    if args.plot:
        _plot(report, args.plot)


def _plot(report, path: Path) -> None:
    from laco_export.charts import save_chart

    from ..bench.plot import draw_by_depth

    title = f"Encode time by depth: {report.machine['gpu'] or report.machine['cpu']}"
    save_chart(draw_by_depth(report.points(), title), path)


def _show(report) -> None:
    from rich.console import Console
    from rich.table import Table

    # Without a terminal Rich would wrap at 80 columns: the table is for a file then, or another program.
    out = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    options = report.options
    out.print(report.summary)
    runtimes = list(dict.fromkeys(result.runtime for result in report.encode))
    if len(runtimes) == 1:
        out.print(f"vision tower on {runtimes[0]}")
    out.print(
        f"{options['warmup']} warm-up runs, {options['repeats']} samples of each, in turn; {options['threads']} threads"
    )
    left_out = {"runtime"} if len(runtimes) == 1 else set()
    left_out |= set() if any(result.energy for result in report.encode) else {"J/image"}
    columns = [column for column in _ENCODE_COLUMNS if column not in left_out]
    table = _table(Table, "encode", columns)
    for result in report.encode:
        floor = result.floor
        cells = {
            "bundle": f"{result.bundle} {result.precision}",
            "depth": result.depth_label,
            "runtime": result.runtime,
            "batch": str(result.batch) + (f" (+{result.padded} padded)" if result.padded else ""),
            "p50 ms": f"{result.p50_ms:.2f}",
            "p95 ms": f"{result.p95_ms:.2f}",
            "images/s": f"{result.images_per_s:.2f}",
            "floor ms": f"{floor.ms:.3g}" if floor else "-",
            "x floor": f"{result.p50_ms / floor.ms:.2f}" if floor else "-",
            "bound": floor.bound if floor else "-",
            "CPU/wall": f"{result.cpu_over_wall:.2f}",
            "rejected": f"{result.rejected} of {result.kept + result.rejected}",
            "J/image": f"{result.energy['joules_per_image']:.3g}" if result.energy else "-",
        }
        table.add_row(*(cells[column] for column in columns))
    out.print(table)
    if report.decode:
        text_runtimes = ", ".join(dict.fromkeys(result.text_runtime for result in report.decode))
        out.print(f"language model: {text_runtimes}")
        out.print(_answers(report, Table))
    for note in _notes(report):
        out.print(note, markup=False)


_ENCODE_COLUMNS = (
    "bundle", "depth", "runtime", "batch", "p50 ms", "p95 ms", "images/s", "floor ms", "x floor", "bound", "CPU/wall",
    "rejected", "J/image",
)  # fmt: skip
_ANSWER_COLUMNS = (
    "bundle", "prompt", "first token ms", "p95 ms", "encode ms", "prefill ms", "tokens/s", "CPU/wall", "rejected",
)  # fmt: skip
_TEXT_COLUMNS = ("bundle", "runtime", "bound")


def _table(table_class, title: str, columns):
    table = table_class(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="left" if column in _TEXT_COLUMNS else "right")
    return table


def _answers(report, table_class):
    table = _table(table_class, f"answers of {report.options['new_tokens']} tokens, medians", _ANSWER_COLUMNS)
    for result in report.decode:
        rate = result.decode_tokens_per_s
        table.add_row(
            f"{result.bundle} ({result.precision})",
            str(result.prompt_tokens),
            f"{result.first_token_ms:.1f}",
            f"{result.first_token_p95_ms:.1f}",
            f"{result.encode_ms:.1f}",
            f"{result.prefill_ms:.1f}",
            f"{rate:.1f}" if rate else "-",
            f"{result.cpu_over_wall:.2f}",
            f"{result.rejected} of {result.kept + result.rejected}",
        )
    return table


def _notes(report) -> list[str]:
    notes = []
    for name, memory in report.memory.items():
        if "error" in memory:
            notes.append(f"{name}: peak memory not measured: {memory['error']}")
            continue
        device = f", and {_mib(memory['device_bytes'])} of the GPU's" if memory["device_bytes"] is not None else ""
        notes.append(f"{name}: peak memory {_mib(memory['peak_resident_bytes'])}{device}")
    if report.host_peaks:
        peaks = report.host_peaks
        notes.append(
            f"floors: by {peaks.flops / 1e9:.0f} GFLOP/s FP32, {peaks.int8_ops / 1e9:.0f} GOP/s INT8 and "
            f"{peaks.bandwidth / 1e9:.1f} GB/s, measured here with {peaks.threads} threads"
        )
    notes += report.notes
    notes += sorted({result.floor_missing for result in report.encode if result.floor_missing})
    return notes + _passed_over(report.passed_over)


def _passed_over(by_bundle: dict[str, list[str]]) -> list[str]:
    """Each reason once, with the bundles that it is of where it is not of all."""
    bundles: dict[str, list[str]] = {}
    for name, reasons in by_bundle.items():
        for reason in reasons:
            bundles.setdefault(reason, []).append(name)
    return [
        ("" if len(names) == len(by_bundle) else f"{', '.join(names)}: ") + f"passed over: {reason}"
        for reason, names in bundles.items()
    ]


def _mib(count: int) -> str:
    return f"{count / (1 << 20):,.0f} MiB"


BENCH = Command("bench", "measure bundles beside each other", _add_arguments, _run)
