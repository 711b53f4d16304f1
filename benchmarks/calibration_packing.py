"""Few-bit vision weights by both ways of choosing a block's scale: the largest weight's, and the decoder's search.

    python benchmarks/calibration_packing.py BUNDLE --images PATH … [--name NAME]

BUNDLE is an FP32 one. Every Linear layer is packed as ``laco-calibrate --weights-only`` packs it for ONNX Runtime's CPU
provider, in blocks of 32 rows; features are compared with the FP32 graph's, one tile a picture.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
from measured_on import device_title

from laco_calibration.blocks.block_errors import feature_error, worst_error
from laco_calibration.graph.linear_layers import find_blocks, is_linear
from laco_calibration.quantizing import FORMS, Placement, cpu
from laco_calibration.source.picture_set import find_pictures, read_tiles
from laco_export.bundle import Bundle, open_bundle
from laco_export.exporter.external_data import WeightFile, graph_from_file, write_graph
from laco_export.exporter.n_bits import dequantize_blocks, quantize_blocks
from laco_export.machine import library_versions
from laco_export.number_formats import ROWS_PER_SCALE
from laco_export.onnx_session import open_session

RESULTS = Path(__file__).parent / "results" / "calibration_packing.json"
BITS = {"w4": 4, "w8": 8}


def features_of(graph, tiles: list[np.ndarray], ir_version: int) -> list[np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vision.onnx"
        with WeightFile(path.with_suffix(".data")) as weights:
            write_graph(graph, path, weights, ir_version=ir_version)
        session = open_session(path)
        return [session.run(None, {"pixel_values": tile})[0] for tile in tiles]


def weight_error(graph, bits: int, *, search: bool) -> float:
    """‖rounded − weights‖ / ‖weights‖ over all Linear layers."""
    lost = total = 0.0
    for node in filter(is_linear, graph.nodes):
        weight = np.asarray(node.inputs[1].values, np.float32).T  # [out, in]
        packed = quantize_blocks(weight, bits, ROWS_PER_SCALE, search=search)
        lost += float(np.square(dequantize_blocks(*packed, bits, weight.shape[1]) - weight).sum())
        total += float(np.square(weight).sum())
    return (lost / total) ** 0.5


def measure(bundle: Bundle, tiles: list[np.ndarray], number_format: str, *, search: bool) -> dict:
    vision = bundle.manifest.vision
    path, form = bundle.file(vision.graphs[0].file), FORMS["ort-cpu"]
    graph = graph_from_file(path)
    expected = features_of(graph, tiles, vision.ir_version)
    error = weight_error(graph, BITS[number_format], search=search)
    blocks = [block.name for block in find_blocks(graph)]
    pack = lambda weight, bits, rows, **_: quantize_blocks(weight, bits, rows, search=search)
    with mock.patch.object(cpu, "quantize_blocks", partial(pack)):
        form.place(graph, Placement(form.formats[number_format], blocks, {}, {}))
    errors = [feature_error(*pair) for pair in zip(expected, features_of(graph, tiles, vision.ir_version))]
    worst = worst_error(errors)
    return {
        "weight_error": error,
        "worst_points": worst.points,
        "worst_cosine": worst.cosine,
        "furthest_norm_ratio": worst.norm_ratio,
        "mean_points": float(np.mean([picture.points for picture in errors])),
        "pictures": len(errors),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--images", type=Path, nargs="+", required=True)
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--name", help="of the bundle in the results (default: its folder's)")
    args = parser.parse_args()
    bundle = open_bundle(args.bundle)
    pictures = find_pictures(args.images).pictures[: args.limit]
    tiles = [next(read_tiles(picture, bundle)) for picture in pictures]
    rows = {
        f"{number_format}, {'searched' if search else 'largest'}": measure(bundle, tiles, number_format, search=search)
        for number_format in BITS
        for search in (False, True)
    }
    for name, row in rows.items():
        print(name, json.dumps(row))
    document = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    document[args.name or args.bundle.name] = {
        "device": device_title(),
        "versions": library_versions(["onnxruntime", "numpy"]),
        "rows": rows,
    }
    RESULTS.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
