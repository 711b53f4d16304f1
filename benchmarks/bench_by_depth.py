"""``laco-engine bench`` on AIMv2-L/336 merged at three depths, by the runtime that is here: table, JSON and picture.

    python benchmarks/bench_by_depth.py make --folder DIR [--precision fp32]        # three bundles: 4 GB in FP32
    python benchmarks/bench_by_depth.py run --folder DIR [--batch 1 5 --repeats 7 …]

``run`` is the command as a user gives it; options that are not this script's go to it. Its JSON and its picture become
benchmarks/results/bench_by_depth.json and .png.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from published_bundles import published_bundles

RESULTS = Path(__file__).resolve().parent / "results"
DEPTHS = ("1", "1/2", "1/4")


def bundle_folder(folder: Path, depth: str) -> Path:
    return folder / f"aimv2-l-at{depth.replace('/', '_')}"


def make(folder: Path, precision: str) -> None:
    for depth in DEPTHS:
        output, made = bundle_folder(folder, depth), folder / f"{depth.replace('/', '_')}.part"
        if output.exists():
            continue
        shutil.rmtree(made, ignore_errors=True)
        for _ in published_bundles("aimv2", depth, [precision], made, batches=(1, 5)):
            (made / precision).rename(output)
        shutil.rmtree(made)


def run(folder: Path, options: list[str]) -> int:
    command = [
        sys.executable,
        "-m",
        "laco_engines.cli",
        "bench",
        *(bundle_folder(folder, depth).name for depth in DEPTHS),
    ]
    command += ["--json", "--plot", RESULTS / "bench_by_depth.png", *options]
    ended = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE)  # short names in the table and the JSON
    if ended.returncode == 0:
        (RESULTS / "bench_by_depth.json").write_bytes(ended.stdout)
    return ended.returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["make", "run"])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--precision", default="fp32")
    arguments, options = parser.parse_known_args()
    if arguments.step == "run":
        return run(arguments.folder, options)
    if options:
        parser.error(f"make takes no {options[0]}")
    make(arguments.folder, arguments.precision)
    return 0


if __name__ == "__main__":
    sys.exit(main())
