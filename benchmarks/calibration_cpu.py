"""An INT8 bundle for ONNX Runtime's CPU provider against the FP32 bundle that it came from, on this machine's CPU.

    python benchmarks/calibration_cpu.py FP32 INT8 [--bursts 10] [--profile]

All subjects run in turn in bursts of three (laco_export.timing): both bundles on ONNX Runtime, and where OpenVINO
is installed (``pip install openvino``) the FP32 graph and the INT8 bundle's numbers on it. OpenVINO wants Q/DQ pairs
and not ONNX Runtime's own operators: the same blocks, symmetric ranges from the same statistics, in an FP32 graph. How
far each subject's features are from FP32's on one golden picture stands beside its time.
"""

from __future__ import annotations

import argparse
import collections
import importlib.util
import json
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np

from laco_calibration.blocks.block_errors import feature_error
from laco_calibration.graph.linear_layers import find_blocks
from laco_calibration.quantizing import FORMS, Placement
from laco_calibration.smoothing.fold import find_folds, fold_scales
from laco_calibration.statistics.records import STATISTICS_NAME, Statistics
from laco_export.bundle import Bundle, open_bundle
from laco_export.exporter.external_data import WeightFile, graph_from_file, write_graph
from laco_export.golden import read_golden
from laco_export.machine import cpu_title, default_threads
from laco_export.number_formats import INT8
from laco_export.onnx_session import open_session
from laco_export.timing import interleave

RESULTS = Path(__file__).parent / "results" / "calibration_cpu.json"
Run = Callable[[], np.ndarray]
_BURST = 3


def graph_of(bundle: Bundle) -> Path:
    return bundle.file(bundle.manifest.vision.graphs[0].file)


def golden_picture(bundle: Bundle) -> np.ndarray:
    """``pixel_values [1, 3, H, W]`` of the bundle's first golden picture."""
    return bundle.manifest.image_preprocessing.normalize(read_golden(bundle).pictures[0])[None]


def with_pairs(base: Bundle, calibrated: Bundle, folder: Path) -> Path:
    """The numbers of ``calibrated`` as Q/DQ pairs in the FP32 graph of ``base``."""
    record, graph = calibrated.manifest.vision.calibration, graph_from_file(graph_of(base))
    statistics = Statistics.load(calibrated.file(STATISTICS_NAME))
    scales = {name: np.asarray(values, np.float32) for name, values in statistics.scales.items()}
    fold_scales(graph, find_folds(graph, find_blocks(graph)), scales)
    chosen = [block["name"] for block in record["blocks"] if block["eight_bit"]]
    methods = {block["name"]: block["method"] for block in record["blocks"]}
    FORMS["trt10.3"].place(graph, Placement(INT8, chosen, statistics.ranges(methods), {}))
    with WeightFile(folder / "pairs.data") as weights:
        write_graph(graph, folder / "pairs.onnx", weights, ir_version=base.manifest.vision.ir_version)
    return folder / "pairs.onnx"


def on_onnx_runtime(path: Path, pixels: np.ndarray) -> Run:
    session = open_session(path)
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: pixels})[0]


def on_openvino(path: Path, pixels: np.ndarray) -> Run:
    """In FP32 where nothing is quantised: its default on a CPU with bfloat16 units is bfloat16."""
    import openvino

    options = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": default_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = openvino.Core().compile_model(str(path), "CPU", options)
    request = compiled.create_infer_request()
    return lambda: request.infer([pixels])[compiled.output(0)].copy()


def by_operator(path: Path, pixels: np.ndarray, runs: int = 4) -> dict[str, float]:
    """Milliseconds of a run by operator, from ONNX Runtime's profile."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = default_threads(), 3
        options.enable_profiling, options.profile_file_prefix = True, str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        for _ in range(runs):
            session.run(None, {session.get_inputs()[0].name: pixels})
        events = json.loads(Path(session.end_profiling()).read_text())
    spent: dict[str, float] = collections.Counter()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("kernel_time"):
            spent[event["args"]["op_name"]] += event["dur"] / 1000 / runs
    return {name: round(ms, 2) for name, ms in spent.most_common(12)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fp32", type=Path)
    parser.add_argument("int8", type=Path)
    parser.add_argument("--bursts", type=int, default=10)
    parser.add_argument("--profile", action="store_true", help="the INT8 graph's time by operator, too")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    base, calibrated = open_bundle(args.fp32), open_bundle(args.int8)
    pixels = golden_picture(base)
    libraries = ["onnxruntime", "numpy"]
    with tempfile.TemporaryDirectory() as folder:
        runs = {
            "fp32": on_onnx_runtime(graph_of(base), pixels),
            "int8": on_onnx_runtime(graph_of(calibrated), pixels),
        }
        if importlib.util.find_spec("openvino"):
            libraries.append("openvino")
            runs["openvino fp32"] = on_openvino(graph_of(base), pixels)
            runs["openvino int8"] = on_openvino(with_pairs(base, calibrated, Path(folder)), pixels)
        expected = runs["fp32"]()
        errors = {name: feature_error(expected, run()) for name, run in runs.items()}
        subjects = {name: (run, True) for name, run in runs.items()}
        series = interleave(subjects, repeats=_BURST * args.bursts, warmup=1, burst=_BURST, settling_runs=1)
    times = {name: samples.to_dict() for name, samples in series.items()}
    fp32_ms = times["fp32"]["milliseconds"]
    record = {
        "device": cpu_title(),
        "versions": {name: version(name) for name in libraries},
        "encoder": base.manifest.encoder,
        "target": base.manifest.vision.target,
        "bursts": args.bursts,
        "subjects": {
            name: {**time, "times_faster": fp32_ms / time["milliseconds"], "points": errors[name].points}
            for name, time in times.items()
        },
        "by_operator": by_operator(graph_of(calibrated), pixels) if args.profile else {},
    }
    for name, subject in record["subjects"].items():
        print(
            f"{name:16s} {subject['milliseconds']:8.1f} ms  {subject['times_faster']:.2f}x  "
            f"cpu/wall {subject['cpu_over_wall']:.2f}  {subject['points']:.3f} points"
        )
    args.results.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
