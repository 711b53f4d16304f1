"""Export the encoders at their published sizes, with proof and for several batches: seconds, memory, nodes, accuracy.

    python benchmarks/full_size_exports.py --folder DIR [--encoder aimv2 …] [--depth 1/2 …] [--method laco …]
                                           [--target trt10.3 ort-cpu] [--precision fp16 …] [--batch 1 5 10] [--outliers]

Each is a checkpoint of random weights with a language model of one small layer, exported by the command itself as a
process of its own (``laco-export --no-llm``). ``--outliers`` makes one block of AIMv2 write values that half cannot
hold. A result is written as soon as it is there; those that are there already are left alone (``--force``). Needs about
8 GB of memory and 6 GB of disk at a time.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

from published_towers import ENCODERS, write_checkpoint

RESULTS = Path(__file__).resolve().parent / "results" / "full_size_exports.json"


def export(checkpoint: Path, output: Path, target: str, precision: str | None, batches: list[int]) -> dict:
    """Run the command and read its report and its peak memory."""
    command = [sys.executable, "-m", "laco_export.cli", "--model", str(checkpoint), "--output", str(output), "--force"]
    command += ["--target", target, "--batch", *map(str, batches), "--no-llm", "--json"]
    command += [f"--{precision}"] if precision else []
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = subprocess.run(command, capture_output=True, text=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if ended.returncode:
        raise SystemExit(ended.stderr)
    report = json.loads(ended.stdout)
    vision, tensors = report["vision"], report["accuracy"]["tensors"]
    worst = min(tensors, key=lambda tensor: tensor["cosine"])
    return {
        "precision": vision["precision"],
        "opset": vision["opset"],
        "files": {graph["file"]: (output / graph["file"]).stat().st_size for graph in vision["graphs"]},
        "weights_bytes": (output / vision["weights"]).stat().st_size,
        "checkpoint_bytes": sum(path.stat().st_size for path in checkpoint.glob("*.safetensors")),
        "nodes_before": sum(vision["nodes_before"].values()),
        "nodes": sum(vision["nodes"].values()),
        "rewrites": {record["name"]: record["fired"] for record in vision["rewrites"]},
        "kept_fp32": len(vision["kept_fp32"]),
        "measured_islands": [node for node in vision["kept_fp32"] if "(rule)" not in node["reason"]][:4],
        "worst_boundary": worst,
        "image_features": tensors[-1],
        "compiled": report["compiled"],
        "wall_s": round(wall, 1),
        "cpu_over_wall": round((_cpu(after) - _cpu(before)) / wall, 2),
        "peak_bytes": 1024 * after.ru_maxrss,  # of the largest process so far; run one at a time for each one's own
        "seconds": report["seconds"],
    }


def _cpu(usage) -> float:
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--encoder", nargs="+", choices=ENCODERS, default=list(ENCODERS))
    parser.add_argument("--depth", nargs="+", default=["1/2"])
    parser.add_argument("--method", nargs="+", default=["laco"])
    parser.add_argument("--target", nargs="+", default=["trt10.3", "ort-cpu"])
    parser.add_argument("--precision", nargs="+", default=[None], help="default: the target's own")
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 5, 10])
    parser.add_argument("--outliers", action="store_true", help="with one block that leaves half's range")
    parser.add_argument("--force", action="store_true", help="export again what is in the results")
    arguments = parser.parse_args()
    for encoder, method, depth in product(arguments.encoder, arguments.method, arguments.depth):
        checkpoint = arguments.folder / f"{encoder}-checkpoint"
        for target, precision in product(arguments.target, arguments.precision):
            words = [encoder, method, f"@{depth}", target, precision, "outliers" if arguments.outliers else None]
            name = " ".join(filter(None, words))
            if name in _results() and not arguments.force:
                continue
            if not checkpoint.exists():
                write_checkpoint(encoder, depth, checkpoint, method, outliers=arguments.outliers)
            exported = export(checkpoint, arguments.folder / "bundle", target, precision, arguments.batch)
            shutil.rmtree(arguments.folder / "bundle")
            RESULTS.write_text(json.dumps(_results() | {name: exported}, indent=1) + "\n")
            print(
                f"{name}: {exported['nodes_before']} -> {exported['nodes']} nodes, {exported['wall_s']} s", flush=True
            )
        shutil.rmtree(checkpoint, ignore_errors=True)


def _results() -> dict:
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


if __name__ == "__main__":
    main()
