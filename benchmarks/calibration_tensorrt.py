"""What TensorRT-RTX makes of an INT8 bundle for TensorRT: does it compile, and which products are eight-bit.

    python benchmarks/calibration_tensorrt.py BUNDLE

Needs no GPU: TensorRT-RTX parses and builds without one. Nothing is timed but the build.
"""

from __future__ import annotations

import argparse
import json
from importlib.metadata import version
from pathlib import Path

from laco_calibration.tensorrt_gate import quantized_matmuls
from laco_export.bundle import open_bundle
from laco_export.exporter.compile_gate import available, compile_graph
from laco_export.machine import cpu_title

RESULTS = Path(__file__).parent / "results" / "calibration_tensorrt.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    bundle = open_bundle(args.bundle)
    vision, path = bundle.manifest.vision, bundle.file(bundle.manifest.vision.graphs[0].file)
    chosen = {f"{linear['module']}/MatMul" for linear in vision.calibration["linears"]}
    products = quantized_matmuls(path)
    int8 = {name for name, kinds in products.items() if kinds == ("INT8", "INT8")}
    record = {
        "device": cpu_title(),
        "versions": {"tensorrt_rtx": version("tensorrt_rtx")},
        "encoder": bundle.manifest.encoder,
        "products": len(products),
        "chosen": len(chosen),
        "both_inputs_from_int8": len(int8),
        "exactly_the_chosen": int8 == chosen,
        "no_other_from_int8": all(kinds == (None, None) for name, kinds in products.items() if name not in chosen),
        "compiled": compile_graph(path, available()),
    }
    print(json.dumps(record, indent=1))
    args.results.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
