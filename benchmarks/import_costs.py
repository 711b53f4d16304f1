"""What imports cost: of the parts, of each command's refusal, and of the packages inside an export.

    python benchmarks/import_costs.py [--rounds 5] [--beside OTHER/bin/python]

Every line is a process of its own, in turn with the others: CPU seconds (user and system) and peak resident memory of
all of it, Python's start included. ``--beside`` runs the same commands in another environment, such as an earlier
version's, turn by turn. Which packages an export imports, and their own share, comes from one ``-X importtime``.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

from measured_on import measured_on

RESULTS = Path(__file__).resolve().parent / "results" / "import_costs.json"
CHECKPOINT = Path(__file__).resolve().parents[1] / "tests" / "assets" / "tiny-checkpoint"

PARTS = {
    "Python": "pass",
    "base and ONNX Runtime": "import numpy, PIL.Image, tokenizers, rich.console, yaml, onnxruntime",
    "the engines, text runtime lean": (
        "import laco_engines.answering, laco_engines.generation.generator, onnxruntime\n"
        "from laco_engines.generation import lean_runtime"
    ),
    "the engines, text runtime optimum": (
        "import laco_engines.answering, laco_engines.generation.generator\n"
        "from laco_engines.generation import optimum_runtime"
    ),
    "torch": "import torch",
    "transformers' generation": "from transformers import GenerationMixin, PreTrainedModel",
    "Optimum": "from optimum.onnxruntime import ORTModelForCausalLM",
    "the exporter": "import laco_export.models, laco_export.exporter.pipeline",
    "the exporter, as the command imports it": (
        "from laco_export.unneeded_packages import without_unneeded_packages\n"
        "with without_unneeded_packages():\n    import laco_export.models, laco_export.exporter.pipeline"
    ),
}
"""What is imported → the program."""

REFUSALS = {
    "laco-export": ("laco_export.cli", "--model", "nope"),
    "laco-train": ("laco_training.cli", "--recipe", "laco_aimv2_qwen2.5_0.5b", "--output", "."),
    "laco-train --dry-run": ("laco_training.cli", "--recipe", "laco_aimv2_qwen2.5_0.5b", "--dry-run"),
    "laco-train init": ("laco_training.cli", "init", "--encoder", ".", "--llm", ".", "--output", "new"),
    "laco-train distil": ("laco_training.cli", "distil", "--teacher", ".", "--images", ".", "--output", "new"),
    "laco-train price": ("laco_training.cli", "price", "nope", "--images", "."),
    "laco-train look": ("laco_training.cli", "look", "nope", "--data", "nope"),
    "laco-calibrate": ("laco_calibration.cli", "nope", "--images", "."),
    "laco-engine run": ("laco_engines.cli", "run", "nope", "--question", "?"),
    "laco-engine chat": ("laco_engines.cli", "chat", "nope"),
    "laco-engine serve": ("laco_engines.cli", "serve", "nope", "--port", "0"),
    "laco-engine build": ("laco_engines.cli", "build", "nope", "--device", "orin-nano"),
    "laco-engine bench": ("laco_engines.cli", "bench", "nope"),
    "laco-engine diff": ("laco_engines.cli", "diff", "nope"),
    "laco-engine inspect": ("laco_engines.cli", "inspect", "nope"),
    "laco-engine doctor": ("laco_engines.cli", "doctor", "nope"),
}
"""Command → a call that needs no weights to be refused."""

_IMPORT_LINE = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)")


def timed(command: list[str], folder: str) -> dict:
    """CPU and wall seconds, and peak MiB, of a process."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    start = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    return {
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "wall_s": time.perf_counter() - start,
        "peak_mib": usage.ru_maxrss / 1024,
        "code": process.returncode,
        "said": said,
    }


def rounds_of(commands: dict[str, list[str]], rounds: int, folder: str) -> dict[str, dict]:
    """Medians of each command over rounds in which all run in turn."""
    runs: dict[str, list[dict]] = defaultdict(list)
    for turn in range(1, rounds + 1):
        for name, command in commands.items():
            run = timed(command, folder)
            runs[name].append(run)
            print(f"{turn}/{rounds}  {run['cpu_s']:6.2f} s  {run['peak_mib']:6.0f} MiB  {name}", flush=True)
    return {
        name: {
            **{key: round(median(run[key] for run in every), 3) for key in ("cpu_s", "wall_s", "peak_mib")},
            "cpu_s_of_all": [round(run["cpu_s"], 3) for run in every],
            "code": every[-1]["code"],
        }
        for name, every in runs.items()
    }


def packages_of_an_export(python: str, folder: str) -> dict[str, float]:
    """Seconds that each top-level package's own modules took to import in an export of the tiny checkpoint."""
    arguments = ("--model", str(CHECKPOINT), "--fp32", "--target", "ort-cpu", "--no-compile", "--force")
    command = [python, "-X", "importtime", "-m", "laco_export.cli", *arguments, "--output", "bundle"]
    seconds: dict[str, float] = defaultdict(float)
    for microseconds, module in _IMPORT_LINE.findall(timed(command, folder)["said"]):
        seconds[module.split(".")[0]] += int(microseconds) / 1e6
    longest = sorted(seconds.items(), key=lambda entry: -entry[1])
    return {"all": round(sum(seconds.values()), 2)} | {name: round(spent, 2) for name, spent in longest[:16]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="of all commands in turn (default: 5)")
    parser.add_argument("--beside", metavar="PYTHON", help="another environment's interpreter")
    parser.add_argument(
        "--commands",
        nargs="+",
        default=list(REFUSALS),
        metavar="NAME",
        help="that it runs (default: all that this does)",
    )
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="FILE.json")
    arguments = parser.parse_args()
    pythons = {"": sys.executable} | ({"beside: ": arguments.beside} if arguments.beside else {})
    refused = {
        f"{prefix}{name}": [python, "-m", *words]
        for name, words in REFUSALS.items()
        for prefix, python in pythons.items()
        if not prefix or name in arguments.commands
    }
    parts = {name: [sys.executable, "-c", program] for name, program in PARTS.items()}
    with tempfile.TemporaryDirectory() as folder:
        document = {
            **measured_on("torch", "transformers", "optimum", "optimum-onnx", "onnxruntime", "numpy", "scikit-learn"),
            "rounds": arguments.rounds,
            "parts": rounds_of(parts, arguments.rounds, folder),
            "refusals": rounds_of(refused, arguments.rounds, folder),
            "packages_of_an_export_s": {
                prefix + "this": packages_of_an_export(python, folder) for prefix, python in pythons.items()
            },
        }

    from laco_export.atomic import write_json

    write_json(arguments.output, document)


if __name__ == "__main__":
    main()
