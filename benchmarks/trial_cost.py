"""What the golden answers and the trial of a finished bundle cost an export: seconds, and bytes in the bundle.

    python benchmarks/trial_cost.py [--folder DIR] [--rounds 3]

Exports the tiny checkpoint and a full-size model, each in a process of its own: DINOv2-Small's encoder and SmolLM2-135M
(``make real-parts``), with an untrained merge and projector, in FP16 with INT8 weights in the language model, which is
what a device gets. Processor seconds by step, which say the same on a busy machine as on a free one; the share is that
of "ask PyTorch the golden questions" and "ask the finished bundle" in all steps, the median of the rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
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
        from laco_training.cli import main as laco_train

        start = ["init", "--encoder", parts / "encoder" / "336", "--llm", parts / "smollm2", "--output", checkpoint]
        if laco_train([*map(str, start), "--at", "1/2"]):
            raise SystemExit(1)
    return checkpoint


def export(arguments: list[str]) -> None:
    """In a process of its own: the command, then its processor seconds by step, on stdout."""
    from laco_export import cli
    from laco_export.exporter import pipeline

    spent: dict[str, float] = {}

    class CpuSteps(pipeline.Steps):
        @contextmanager
        def step(self, name, total=None):
            start = time.process_time()
            with super().step(name, total) as advance:
                yield advance
            spent[name] = round(spent.get(name, 0) + time.process_time() - start, 3)

    pipeline.Steps = CpuSteps
    if cli.main(arguments):
        raise SystemExit(1)
    print(json.dumps(spent))


def measure(checkpoint: Path, options: list[str], folder: Path, rounds: int) -> dict:
    output, exports = folder / "bundle", []
    for _ in range(rounds):
        command = ["--model", checkpoint, "--output", output, "--force", "--no-compile", *options]
        done = subprocess.run(
            [sys.executable, __file__, "--export", *map(str, command)], check=True, stdout=subprocess.PIPE, text=True
        )
        exports.append(json.loads(done.stdout.splitlines()[-1]))
    shares = [sum(seconds[step] for step in STEPS) / sum(seconds.values()) for seconds in exports]
    return {
        "share": round(statistics.median(shares), 4),
        "seconds": {step: statistics.median(seconds[step] for seconds in exports) for step in STEPS},
        "bytes": (output / FILE).stat().st_size,
        "of_bytes": sum(path.stat().st_size for path in output.rglob("*") if path.is_file()),
        "exports": exports,
    }


if __name__ == "__main__":
    export(sys.argv[2:]) if sys.argv[1:2] == ["--export"] else main()
