"""What the golden answers and the trial of a finished bundle cost an export: seconds, and bytes in the bundle.

    python benchmarks/trial_cost.py [--folder DIR] [--rounds 3]

Exports the tiny checkpoint and a full-size model, each in a process of its own: DINOv2-Small's encoder and SmolLM2-135M
(``make real-parts``), with an untrained merge and projector, in FP16 with INT8 weights in the language model, which is
what a device gets. An export says its seconds by step; the share is that of "ask PyTorch the golden questions" and "ask
the finished bundle" in all of them, the median of the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from measured_on import measured_on

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "trial_cost.json"
STEPS = ("ask PyTorch the golden questions", "ask the finished bundle")
FILE = "golden_answers.npz"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="keep the full-size checkpoint here, or take the one that is there")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        tiny, full = ROOT / "tests" / "assets" / "tiny-checkpoint", full_size_checkpoint(folder)
        models = {"tiny": (tiny, ["--fp16"]), "DINOv2-Small, SmolLM2-135M": (full, ["--fp16", "--llm", "int8"])}
        rows = {
            name: measure(checkpoint, options, Path(temporary), arguments.rounds)
            for name, (checkpoint, options) in models.items()
        }
    document = {**measured_on("torch", "onnxruntime", "transformers"), "rounds": arguments.rounds, "models": rows}
    arguments.output.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps(rows, indent=1, ensure_ascii=False))


def full_size_checkpoint(folder: Path) -> Path:
    """A checkpoint started from the real parts."""
    sys.path.insert(0, str(ROOT / "examples"))
    from real_parts.cache import default_folder

    checkpoint, parts = folder / "full-size", default_folder()
    if not checkpoint.exists():
        start = ["init", "--encoder", parts / "encoder" / "336", "--llm", parts / "smollm2", "--at", "1/2"]
        run("laco_training.cli", *start, "--output", checkpoint)
    return checkpoint


def run(module: str, *arguments: object) -> str:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def measure(checkpoint: Path, options: list[str], folder: Path, rounds: int) -> dict:
    exports = []
    for _ in range(rounds):
        output = folder / "bundle"
        before = os.times()
        document = json.loads(
            run(
                "laco_export.cli",
                "--model",
                checkpoint,
                "--output",
                output,
                "--force",
                "--no-compile",
                "--json",
                *options,
            )
        )
        after = os.times()
        seconds = document["seconds"]
        exports.append(
            {
                "seconds": {step: seconds[step] for step in STEPS},
                "of": round(sum(seconds.values()), 2),
                "share": round(sum(seconds[step] for step in STEPS) / sum(seconds.values()), 4),
                "cpu_seconds_of_the_command": round(
                    after.children_user + after.children_system - before.children_user - before.children_system, 1
                ),
            }
        )
    return {
        "share": statistics.median(export["share"] for export in exports),
        "bytes": (output / FILE).stat().st_size,
        "of_bytes": sum(path.stat().st_size for path in output.rglob("*") if path.is_file()),
        "exports": exports,
    }


if __name__ == "__main__":
    main()
