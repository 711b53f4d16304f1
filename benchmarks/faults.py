"""Every fault of a list tried again: about a hundred wrong bundles, checkpoints, pictures, processes and sources.

    python benchmarks/faults.py [--only a b …] [--sources FOLDER]

Each is done to the tiny checkpoint of ``tests/assets``, or to a bundle that is exported from it first, and a command
runs on it in a process of its own: it must refuse by name, answer, or make its remark, within its time and memory. What
it should do stands beside each. A table counts the faults by class; the raw JSON says what happened to each. With
``--sources`` the code of another checkout is tried, and its counts are kept as ``before``.

Classes: a bundles, b checkpoints and exports, c pictures, e processes, f faults planted into the source, g folders and
files of other tools.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from fault_cases import PACKAGES

if TYPE_CHECKING:
    from fault_cases.attempts import Fault
    from fault_cases.workshop import Workshop

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).resolve().parent / "results" / "faults.json"
PRELOADED = (
    *("laco_export", "laco_export.cli", "laco_export.exporter.pipeline", "laco_export.models.initialization"),
    *("laco_training.init_command", "laco_engines.cli", "laco_engines.answering", "laco_calibration.cli"),
    *("onnxruntime", "onnxscript", "optimum.onnxruntime", "polygraphy.backend.onnxrt", "polygraphy.comparator"),
    *("torch", "torch.onnx", "transformers.modeling_utils"),
)
"""What commands import; laco_export first, which turns ONNX Runtime's reporting off."""


def import_what_takes_long() -> None:
    """Before the first fork; no session and no model is made here."""
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}  # a fork does not survive their threads
    for name in PRELOADED:
        importlib.import_module(name)
    importlib.import_module("torch").set_num_threads(1)


def faults_of(letter: str) -> list[Fault]:
    """The faults of a class."""
    from fault_cases import bundles, checkpoints, folders, pictures, planted, processes

    parts = (bundles, checkpoints, pictures, processes, planted, folders)
    return [fault for part in parts for fault in part.FAULTS if fault.letter == letter]


def try_all(faults: list[Fault], shop: Workshop) -> list[dict]:
    """Try faults one after another; what happened to each."""
    entries = []
    for number, fault in enumerate(faults, 1):
        start = time.perf_counter()
        try:
            verdict = fault.attempt(shop)
            right, happened = verdict.right, verdict.happened
        except Exception as error:  # the attempt itself, which says nothing of the code; the others go on
            right, happened = None, f"could not be tried: {type(error).__name__}: {error}"
        seconds = time.perf_counter() - start
        mark = "ok  " if right else "FAIL"
        print(f"{number:3}/{len(faults)} {mark} {seconds:5.1f} s  {fault.letter} · {fault.done}", file=sys.stderr)
        if not right:
            print(f"             expected: {fault.expected}; {happened[:400]}", file=sys.stderr, flush=True)
        entries.append(
            {
                "class": fault.letter,
                "done": fault.done,
                "expected": fault.expected,
                "right": right,
                "happened": happened.replace(str(shop.folder), "…").replace(str(ROOT), "."),
                "seconds": round(seconds, 2),
            }
        )
    return entries


def counts_of(entries: list[dict]) -> dict[str, dict[str, int]]:
    """Class → how many were tried, and how many of these did not end as they should."""
    tried = Counter(entry["class"] for entry in entries if entry["right"] is not None)
    failed = Counter(entry["class"] for entry in entries if entry["right"] is False)
    return {letter: {"tried": tried[letter], "failed": failed[letter]} for letter in sorted(tried)}


def table(now: dict, before: dict) -> str:
    rows = ["| class | failed before | failed now |", "|---|---:|---:|"]
    for letter in sorted({*now, *before}):
        cells = [f"{c[letter]['failed']} of {c[letter]['tried']}" if letter in c else "" for c in (before, now)]
        rows.append(f"| {letter} | {cells[0]} | {cells[1]} |")
    return "\n".join(rows)


def restart_with(sources: Path) -> None:
    """Run again with the packages of another checkout in front of the installed ones."""
    links = Path(tempfile.mkdtemp(prefix="faults-sources-"))
    for package, folder in PACKAGES.items():
        (links / package).symlink_to((sources / folder).resolve())
    os.environ["PYTHONPATH"] = os.environ["FAULTS_SOURCES"] = str(links)
    os.execv(sys.executable, [sys.executable, *sys.argv])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=tuple("abcefg"), default=list("abcefg"), help="some classes alone")
    parser.add_argument("--sources", type=Path, metavar="FOLDER", help="another checkout's code; kept as 'before'")
    parser.add_argument("--no-save", action="store_true", help=f"leave {RESULTS.name} as it is")
    arguments = parser.parse_args()
    if arguments.sources and "FAULTS_SOURCES" not in os.environ:
        restart_with(arguments.sources)
    from measured_on import measured_on

    import_what_takes_long()
    from fault_cases.workshop import Workshop

    when, failed = "before" if arguments.sources else "now", 0
    saved = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results = saved.setdefault(when, {"faults": []})
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        shop = Workshop(Path(folder).resolve())
        for letter in arguments.only:
            entries = try_all(faults_of(letter), shop)
            failed += sum(not entry["right"] for entry in entries)
            others = [entry for entry in results["faults"] if entry["class"] != letter]
            results["faults"] = sorted([*others, *entries], key=lambda entry: entry["class"])
            results |= {**measured_on("torch", "onnxruntime"), "counts": counts_of(results["faults"])}
            if not arguments.no_save:  # after each class, so that an interrupted run keeps what it did
                RESULTS.write_text(json.dumps(saved, indent=1) + "\n")
    before, now = (saved.get(run, {}).get("counts", {}) for run in ("before", "now"))
    print(table(now, before))
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
