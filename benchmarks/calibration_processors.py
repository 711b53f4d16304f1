"""An INT8 bundle for a CPU on processors with and without VNNI: its two graphs beside FP32, in time and in points.

    python benchmarks/calibration_processors.py FP32 INT8 [--bursts 10] [--results JSON]

INT8 is what ``laco-calibrate --target ort-cpu`` made of FP32. Without VNNI is this machine with those instructions
hidden (:mod:`processor_without_vnni`). Each kind of processor is measured in a process of its own, all graphs in turn:

- ``fp32``;
- ``eight bits``: int8 weights with exact products, as the toolkit's sessions run them;
- ``eight bits, fast products``: the same by ONNX Runtime's defaults, which cut off sums without VNNI;
- ``seven bits``: the twin; what ``--portable`` writes as the only graph.

Points are 100·(1 - cosine) or 100·|norm ratio - 1|, whichever is more, of the worst golden picture against PyTorch.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from measured_on import measured_on
from processor_without_vnni import KINDS, without_vnni

from laco_calibration.blocks.block_errors import feature_error
from laco_export.bundle import Bundle, graphs_from, open_bundle
from laco_export.golden import read_golden
from laco_export.onnx_session import open_session, products_saturate
from laco_export.timing import interleave

RESULTS = Path(__file__).parent / "results" / "calibration_processors.json"
_BURST = 3


def measure(fp32: Bundle, int8: Bundle, bursts: int) -> dict:
    """Subject → milliseconds, times FP32's speed, CPU over wall time, and points; on this processor."""
    vision = int8.manifest.vision
    twin = graphs_from(vision.twin["graphs"])[0].file
    eight = int8.file(vision.graphs[0].file)
    sessions = {
        "fp32": open_session(fp32.file(fp32.manifest.vision.graphs[0].file)),
        "eight bits": open_session(eight),
        "eight bits, fast products": open_session(eight, exact_products=False),
        "seven bits": open_session(int8.file(twin), exact_products=False),
    }
    golden, prepare = read_golden(fp32), fp32.manifest.image_preprocessing
    pictures = [prepare.normalize(picture)[None] for picture in golden.pictures]
    name = sessions["fp32"].get_inputs()[0].name
    run = lambda session, picture=pictures[0]: session.run(None, {name: picture})[0]
    points = {
        subject: max(
            feature_error(expected[None], run(session, picture)).points
            for expected, picture in zip(golden.image_features, pictures, strict=True)
        )
        for subject, session in sessions.items()
    }
    subjects = {subject: (lambda session=session: run(session), True) for subject, session in sessions.items()}
    series = interleave(subjects, repeats=_BURST * bursts, warmup=1, burst=_BURST, settling_runs=1)
    times = {subject: samples.to_dict() for subject, samples in series.items()}
    base = times["fp32"]["milliseconds"]
    return {
        "fast_products_cut_off": products_saturate(),
        "subjects": {
            subject: {**time, "times_faster": base / time["milliseconds"], "points": float(np.float32(points[subject]))}
            for subject, time in times.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fp32", type=Path)
    parser.add_argument("int8", type=Path)
    parser.add_argument("--bursts", type=int, default=10)
    parser.add_argument("--results", type=Path, default=RESULTS, help="rows of other bundles in it stay")
    parser.add_argument("--here", action="store_true", help="this process's processor alone, as JSON on stdout")
    args = parser.parse_args()
    if args.here:
        print(json.dumps(measure(open_bundle(args.fp32), open_bundle(args.int8), args.bursts)))
        return
    manifest = open_bundle(args.int8).manifest
    record, rows = manifest.vision.calibration, {}
    with tempfile.TemporaryDirectory() as folder:
        kinds = {"as it is": None, **{left: without_vnni(Path(folder), hide) for hide, left in KINDS.items()}}
        for kind, environment in kinds.items():
            if environment is None and kind != "as it is":
                print(f"{kind}: cannot be shown on this machine")
                continue
            command = [sys.executable, __file__, str(args.fp32), str(args.int8), "--here", f"--bursts={args.bursts}"]
            done = subprocess.run(command, env=environment, check=True, text=True, stdout=subprocess.PIPE)
            rows[kind] = json.loads(done.stdout)
            for subject, row in rows[kind]["subjects"].items():
                print(
                    f"{kind:22s} {subject:26s} {row['milliseconds']:8.2f} ms  {row['times_faster']:.2f}x  "
                    f"cpu/wall {row['cpu_over_wall']:.2f}  {row['points']:.3f} points"
                )
    results = json.loads(args.results.read_text()) if args.results.is_file() else {}
    sizes = {name: entry["bytes"] for name, entry in manifest.files.items() if name.startswith("vision")}
    encoder = manifest.encoder
    title = f"{encoder['model_type']}, {encoder['num_blocks']} blocks of {encoder['hidden_size']} channels"
    results[title] = {
        **measured_on("onnxruntime", "numpy"),
        "encoder": encoder,
        "calibrated_on": record["pictures"],
        "max_drop": record["max_drop"],
        "blocks_in_eight_bits": sum(block["eight_bit"] for block in record["blocks"]),
        "blocks": len(record["blocks"]),
        "bytes": sizes,
        "bursts": args.bursts,
        "processors": rows,
    }
    args.results.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
