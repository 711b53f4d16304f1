"""What training under the rounding wins back: the tiny model in few bits, before and after laco-train --fake-quant.

    python benchmarks/calibration_fake_quant.py RUN [--weights-only int4] [--work FOLDER]

RUN is a finished ``laco-train --recipe tiny --output RUN``; its ``fake-quant`` is replaced. Every block is in few bits
throughout. Features are compared with those of the FP32 bundle before the fine-tuning, on every held-out picture, and
answers with the data's own. What is kept in ``--work`` is not made again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np

from laco_calibration.answers import ask
from laco_calibration.blocks.block_errors import feature_error, worst_error
from laco_calibration.options import CalibrationOptions
from laco_calibration.pipeline import calibrate
from laco_calibration.source.picture_set import PictureSet, find_pictures, read_tiles
from laco_engines.runtimes import open_runtime
from laco_export.bundle import open_bundle
from laco_export.exporter.options import ExportOptions
from laco_export.exporter.pipeline import export_bundle
from laco_export.machine import cpu_title

RESULTS = Path(__file__).parent / "results" / "calibration_fake_quant.json"


def exported(checkpoint: Path, output: Path) -> Path:
    if not output.exists():
        export_bundle(ExportOptions(checkpoint, precision="fp32", output=output, compile=False))
    return output


def in_few_bits(base: Path, run: Path, number_format: str, output: Path) -> Path:
    if not output.exists():
        pictures = [run / "data/pictures/train"]
        options = CalibrationOptions(
            base,
            images=pictures,
            limit=136,
            target="trt10.14" if number_format == "w4" else "trt10.3",
            number_format=number_format,
            all_int8=True,
            compile=False,
            output=output,
        )
        calibrate(options)
    return output


def features_of(folder: Path, heldout: PictureSet) -> list[np.ndarray]:
    bundle = open_bundle(folder)
    runtime = open_runtime(bundle, name="onnxruntime")
    return [runtime.encode(tile) for picture in heldout.pictures for tile in read_tiles(picture, bundle)]


def judged(folder: Path, heldout: PictureSet, expected: list[np.ndarray]) -> dict:
    """A bundle's right answers, and its features beside ``expected``."""
    answers = ask(folder, heldout.questions)
    errors = [feature_error(a, b) for a, b in zip(expected, features_of(folder, heldout), strict=True)]
    worst, calibration = worst_error(errors), open_bundle(folder).manifest.vision.calibration
    return {
        # What laco-calibrate held against --max-drop: this bundle beside the FP32 bundle that it was made from.
        "points_in_calibration": None if calibration is None else calibration["points"],
        "right": sum(answer == question.truth for answer, question in zip(answers, heldout.questions)),
        "questions": len(heldout.questions),
        "points": worst.points,
        "cosine": worst.cosine,
        "norm_ratio": worst.norm_ratio,
        "mean_cosine": float(np.mean([error.cosine for error in errors])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--weights-only", choices=("int8", "int4"))
    parser.add_argument("--work", type=Path, default=Path("build/fake-quant"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    number_format = {None: "int8", "int8": "w8", "int4": "w4"}[args.weights_only]
    args.work.mkdir(parents=True, exist_ok=True)
    heldout = find_pictures([args.run / "data/heldout.json"])
    base = exported(args.run / "checkpoint", args.work / "fp32")
    before = in_few_bits(base, args.run, number_format, args.work / f"{number_format}-before")
    if not (args.run / "fake-quant").exists():
        command = [sys.executable, "-m", "laco_training", "--recipe", "tiny", "--output", str(args.run)]
        subprocess.run([*command, "--fake-quant", str(before)], check=True)
    tuned = exported(args.run / "fake-quant", args.work / f"{number_format}-tuned")
    after = in_few_bits(tuned, args.run, number_format, args.work / f"{number_format}-after")
    expected = features_of(base, heldout)
    record = {
        "device": cpu_title(),
        "versions": {name: version(name) for name in ("onnxruntime", "torch", "numpy")},
        "number_format": number_format,
        "fp32": judged(base, heldout, expected),
        "before": judged(before, heldout, expected),
        "tuned_in_fp32": judged(tuned, heldout, expected),
        "after": judged(after, heldout, expected),
        "after_beside_tuned": judged(after, heldout, features_of(tuned, heldout)),
    }
    print(json.dumps(record, indent=1))
    args.results.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
