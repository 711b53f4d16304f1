"""From a published folder to an answer at full shape, by the commands of docs/published-models.md; random weights.

    python benchmarks/published_to_answer.py [--folder DIR] [--only LLaVA-OneVision-0.5B]

Each command runs in a process of its own: ``laco-train init --from-vlm … --at 1/2``, ``laco-export --fp16``, and
``laco-engine run`` with a picture of 1,280 x 720 and an answer of eight tokens. For each: seconds, processor seconds
and the peak of resident memory, pages of mapped files among them. Random weights say nothing; time and memory stand.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from import_published import FOLDERS
from measured_on import measured_on
from page_rows import replace_rows
from PIL import Image

RESULTS = Path(__file__).resolve().parent / "results" / "published_to_answer.json"
PAGE = RESULTS.parents[2] / "docs" / "published-models.md"
WRITER = Path(__file__).with_name("import_published.py")


def measured(module: str, *arguments: str) -> dict:
    """A command's cost; its own words go to stderr.

    Raises:
        SystemExit: it fails.
    """
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", module, *arguments], stdout=sys.stderr)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"error: {module} {' '.join(arguments)} ended with {os.waitstatus_to_exitcode(status)}")
    return {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_mib": used.ru_maxrss / 1024,
    }


def chain(name: str, folder: Path) -> dict:
    """The three commands' costs."""
    published, checkpoint, bundle = (folder / part for part in ("published", "checkpoint", "bundle"))
    subprocess.run([sys.executable, WRITER, "--write", name, "--folder", published], check=True)
    picture = folder / "picture.png"
    noise = np.random.default_rng(0).integers(0, 256, (9, 16, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((1280, 720)).save(picture)
    rows = {
        "import and merge": measured(
            "laco_training", "init", "--from-vlm", str(published), "--at", "1/2", "--output", str(checkpoint)
        )
    }
    weights = sum(path.stat().st_size for path in published.glob("*.safetensors"))
    shutil.rmtree(published)
    rows["export"] = measured(
        "laco_export.cli",
        *("--model", str(checkpoint), "--at", "1/2", "--fp16", "--no-compile", "--output", str(bundle)),
    )
    shutil.rmtree(checkpoint)
    question = ("--image", str(picture), "--question", "What is shown?", "--max-new-tokens", "8")
    rows["answer"] = measured("laco_engines.cli", "run", str(bundle), *question)
    shutil.rmtree(bundle)
    return {"weights_mib": weights / 2**20, **rows}


def table_of(results: dict) -> str:
    """A line a model and command, as Markdown."""
    lines = ["| | command | time (CPU) | peak memory |", "|---|---|---:|---:|"]
    commands = {"import and merge": "`init --from-vlm --at 1/2`", "export": "`laco-export --fp16`", "answer": "`run`"}
    for name, row in results.items():
        for part, command in commands.items():
            cost = row[part]
            spent = f"{cost['seconds']:.0f} s ({cost['cpu_seconds']:.0f} s) | {cost['peak_mib'] / 1024:.1f} GiB"
            lines.append(f"| {name}, {row['weights_mib'] / 1024:.2f} GiB | {command} | {spent} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="scratch, about 12 GB; default: a temporary one")
    parser.add_argument("--only", nargs="+", choices=FOLDERS, default=list(FOLDERS))
    arguments = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in arguments.only:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch:
            results[name] = measured_on("torch", "transformers", "onnxruntime") | chain(name, Path(scratch))
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        replace_rows(PAGE, RESULTS.name, table_of(results))
        print(json.dumps({name: results[name]}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
