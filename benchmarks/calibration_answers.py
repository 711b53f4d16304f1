"""What the trained tiny model still answers in eight bits: both forms, every block, on the 300 held-out questions.

    python benchmarks/calibration_answers.py --images RUN/data/pictures/train [--checkpoint CKPT] [--questions JSON]

RUN is what ``laco-train --recipe tiny`` leaves: calibration sees pictures of its training, the questions are of others.
All three bundles are run by ONNX Runtime's CPU provider. It computes the FP16 parts of the graph for TensorRT in FP32,
so its features are also judged node by node in half arithmetic.
"""

from __future__ import annotations

import argparse
import collections
import json
import tempfile
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import numpy as np

from laco_calibration.answers import ask, score
from laco_calibration.blocks.block_errors import FeatureError, feature_error, worst_error
from laco_calibration.options import CalibrationOptions
from laco_calibration.pipeline import calibrate
from laco_calibration.source.picture_set import PictureQuestion, find_pictures, read_tiles
from laco_calibration.verification import judge_graph
from laco_engines.runtimes import open_runtime
from laco_export.bundle import Bundle, open_bundle
from laco_export.exporter.options import ExportOptions
from laco_export.exporter.pipeline import export_bundle
from laco_export.machine import cpu_title

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "calibration_answers.json"
HALF_PICTURES = 20
"""Judged node by node in half arithmetic: each takes a second of it."""


def by_kind(questions: list[PictureQuestion], kinds: dict[str, str], answers: list[str]) -> dict[str, int]:
    """Right answers by kind of question."""
    right: dict[str, int] = collections.Counter()
    for question, answer in zip(questions, answers):
        right[kinds[question.images[0].name]] += answer == question.truth
    return dict(sorted(right.items()))


def features_of(bundle: Bundle, tiles: list[np.ndarray]) -> list[np.ndarray]:
    runtime = open_runtime(bundle, name="onnxruntime")
    return [runtime.encode(tile) for tile in tiles]


def points_of(error: FeatureError) -> dict:
    return {"cosine": error.cosine, "norm_ratio": error.norm_ratio, "points": error.points}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "tests/assets/tiny-checkpoint")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=264)
    parser.add_argument("--questions", type=Path, default=ROOT / "tests/assets/tiny-heldout/heldout.json")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    heldout = find_pictures([args.questions])
    kinds = {Path(sample["image"]).name: sample["kind"] for sample in json.loads(args.questions.read_text())}
    record: dict = {
        "device": cpu_title(),
        "versions": {name: version(name) for name in ("onnxruntime", "torch", "numpy")},
        "questions": len(heldout.questions),
        "run_by": "ONNX Runtime, CPU provider",
        "targets": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        options = ExportOptions(args.checkpoint, precision="fp32", output=Path(folder) / "fp32", compile=False)
        base = open_bundle(export_bundle(options).output)
        tiles = [tile for picture in heldout.pictures for tile in read_tiles(picture, base)]
        expected, base_answers = features_of(base, tiles), ask(base.path, heldout.questions)
        record["fp32_right_by_kind"] = by_kind(heldout.questions, kinds, base_answers)
        for target in ("ort-cpu", "trt10.3"):
            options = CalibrationOptions(
                base.path,
                images=[args.images],
                limit=args.limit,
                target=target,
                all_int8=True,
                output=Path(folder) / target,
            )
            made = open_bundle(calibrate(options).output)
            errors = [feature_error(a, b) for a, b in zip(expected, features_of(made, tiles), strict=True)]
            answers = ask(made.path, heldout.questions)
            record["targets"][target] = measured = {
                "blocks_in_eight_bits": sum(block["eight_bit"] for block in made.manifest.vision.calibration["blocks"]),
                "pictures_looked_at": made.manifest.vision.calibration["pictures"],
                "answers": asdict(score(heldout.questions, base_answers, answers)),
                "right_by_kind": by_kind(heldout.questions, kinds, answers),
                "worst_of_all_heldout_pictures": {"pictures": len(tiles), **points_of(worst_error(errors))},
            }
            if target == "trt10.3":
                graph = made.file(made.manifest.vision.graphs[0].file)
                some = slice(0, None, max(1, len(tiles) // HALF_PICTURES))
                half = judge_graph(graph, tiles[some], expected[some], half=True)
                measured["in_half_arithmetic"] = {"pictures": len(tiles[some]), **points_of(half)}
    print(json.dumps(record, indent=1))
    args.results.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
