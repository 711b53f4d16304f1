"""What the drift of a small VLM's bundles comes from, part by part, beside its FP32 bundle.

    python benchmarks/drift_attribution.py --run RUN --folder DIR [--questions 20] [--threads N]

RUN is what ``laco-train --recipe laco_dinov2_smollm2_135m`` made of the real parts (docs/small-vlm.md), merged at 1/2.
Three bundles are exported into DIR, or taken from there: FP32; FP32 with a language model in INT4; that with its tower
in INT8, every block, for ONNX Runtime's CPU provider. ``laco-engine diff --attribute`` then asks about held-out
pictures, evenly taken, both of each one's questions. Of the answers of a model, which a repetition repeats: nothing is
timed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from measured_on import measured_on

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "drift_attribution.json"
BUNDLES = ("fp32-int4", "int8-int4")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="the folder that laco-train made")
    parser.add_argument("--folder", type=Path, required=True, help="where the bundles are, or are written")
    parser.add_argument("--questions", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    pictures = pictures_folder()
    export_bundles(arguments.run / "checkpoint", arguments.folder, pictures)
    questions = write_questions(pictures / "heldout.json", arguments.folder / "questions.json", arguments.questions)
    drifts = {name: attributed(arguments.folder, name, pictures, questions, arguments.threads) for name in BUNDLES}
    document = {**measured_on("onnxruntime"), "threads": arguments.threads, "bundles": drifts}
    arguments.output.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    for name, drift in drifts.items():
        print(name, f"{len(drift['changed'])} of {drift['asked']} answers changed")
        for row in drift["attribution"]:
            error = row["feature_error"]
            print(f"  {row['part']:<26} {row['points']:6.1f} points, {row['logprob_lost']:8.4f} nats a token, {error}")


def pictures_folder() -> Path:
    """Of the real parts."""
    sys.path.insert(0, str(ROOT / "examples"))
    from real_parts.cache import default_folder

    return default_folder() / "pictures"


def export_bundles(checkpoint: Path, folder: Path, pictures: Path) -> None:
    """Those that are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    export = ["--model", checkpoint, "--at", "1/2", "--fp32", "--no-compile", "--target", "ort-cpu"]
    eight_bits = ["--target", "ort-cpu", "--limit", "32", "--all-int8", "--no-smoothing", "--max-drop", "50"]
    commands = {
        "fp32": ("laco_export.cli", export),
        "fp32-int4": ("laco_export.cli", [*export, "--llm", "int4"]),
        "int8-int4": ("laco_calibration.cli", [folder / "fp32-int4", *eight_bits, "--images", pictures / "images"]),
    }
    for name, (module, options) in commands.items():
        if not (folder / name).exists():
            run(module, *options, "--output", folder / name)


def write_questions(heldout: Path, file: Path, count: int) -> Path:
    """Both questions of every so-manieth picture."""
    by_picture: dict[str, list[dict]] = {}
    for entry in json.loads(heldout.read_text(encoding="utf-8")):
        by_picture.setdefault(entry["image"], []).append(entry)
    step = max(1, 2 * len(by_picture) // count)
    chosen = [entry for entries in list(by_picture.values())[::step] for entry in entries]
    file.write_text(json.dumps(chosen[:count]), encoding="utf-8")
    return file


def attributed(folder: Path, name: str, pictures: Path, questions: Path, threads: int) -> dict:
    """The command's document, without where its files are."""
    asked = ["--images", pictures, "--questions", questions, "--max-new-tokens", "8"]
    plot = ["--plot", folder / f"{name}.png"]
    runs_on = ["--threads", str(threads), "--text-runtime", "lean"]
    reference = ["--attribute", "--reference", folder / "fp32", "--json"]
    text = run("laco_engines.cli", "diff", folder / name, *reference, *asked, *plot, *runs_on)
    return {**json.loads(text), "bundle": name, "reference": "fp32"}


def run(module: str, *arguments: object) -> str:
    """A command of the toolkit in a process of its own: what it printed."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
