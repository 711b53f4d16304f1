"""Encode time of the exporter's graph against a plain ``torch.onnx.export``, that after ONNX Runtime's transformer
optimizer, and OpenVINO; each encoder at its published size, merged at @1/2, batch 1, FP32, random weights.

    python benchmarks/against_plain_export.py make --folder DIR [--encoder aimv2 …]
    python benchmarks/against_plain_export.py time --folder DIR [--encoder aimv2 …] [--rounds 12]

``make`` writes DIR/<encoder>/{plain,optimizer,ours}.onnx (about 4 GB an encoder) and counts their nodes. ``time`` runs
the graphs in turn, compares their outputs, and needs about 8 GB of memory. OpenVINO is measured where it is installed
(``pip install openvino``): on our graph, and on the plain one.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
from collections import Counter
from pathlib import Path

import numpy as np
from graph_timing import (
    THREADS,
    graphs_measured_on,
    median_ratio,
    merge_results,
    open_session,
    random_pixels,
    summary,
    time_in_turn,
)
from published_towers import ENCODERS, pixel_shape, published_tower

RESULT, DEPTH = "against_plain_export", "1/2"
FORMS = ("plain", "optimizer", "ours")


def make(encoder: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tower = published_tower(encoder, DEPTH)
    if not (folder / "ours.onnx").exists():
        write_ours(tower, folder)
    if not (folder / "plain.onnx").exists():
        write_plain(tower, folder / "plain.onnx")
    config = tower.vision_model.encoder.config
    del tower
    gc.collect()
    if not (folder / "optimizer.onnx").exists():
        optimize(folder / "plain.onnx", folder / "optimizer.onnx", encoder, config)
    nodes = {form: count_nodes(folder / f"{form}.onnx") for form in FORMS}
    merge_results(RESULT, nodes={encoder: nodes})
    print(encoder, {form: sum(counts.values()) for form, counts in nodes.items()}, flush=True)


def write_ours(tower, folder: Path) -> None:
    """As ``laco-export --target ort-cpu`` writes it."""
    from laco_export.exporter import vision_graph
    from laco_export.exporter.targets import TARGETS

    target = TARGETS["ort-cpu"]
    traced = vision_graph.trace_and_rewrite(tower, pixel_shape(tower), opset=target.opsets[-1])
    vision_graph.write_vision(vision_graph.for_target(traced, target, (1,)), folder, precision="fp32", target=target)
    (folder / "vision_b1.onnx").rename(folder / "ours.onnx")
    (folder / "vision_b1.marked.onnx").unlink()


def write_plain(tower, path: Path) -> None:
    """``torch.onnx.export`` with nothing chosen but the file."""
    import torch

    class Features(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.tower = tower

        def forward(self, pixel_values):
            return self.tower.projector(self.tower.vision_model(pixel_values), self.tower.vision_model.merged_grid)

    pixels = torch.zeros(pixel_shape(tower))
    torch.onnx.export(Features().eval(), (pixels,), str(path), dynamo=True, external_data=True)


def optimize(plain: Path, path: Path, encoder: str, config) -> None:
    """``python -m onnxruntime.transformers.optimizer --model_type … --use_external_data_format``."""
    from onnxruntime.transformers import optimizer

    model = optimizer.optimize_model(
        str(plain),
        model_type="clip" if encoder == "clip" else "vit",
        num_heads=config.num_attention_heads,
        hidden_size=config.hidden_size,
    )
    model.save_model_to_file(str(path), use_external_data_format=True)


def count_nodes(path: Path) -> dict[str, int]:
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    return dict(Counter(f"{node.domain}.{node.op_type}".lstrip(".") for node in graph.node).most_common())


def measure(encoder: str, folder: Path, rounds: int) -> None:
    sessions = {form: open_session(folder / f"{form}.onnx") for form in FORMS}
    pixels = next(iter(random_pixels(sessions["ours"]).values()))
    runs = {
        form: lambda session=session: session.run(None, {session.get_inputs()[0].name: pixels})[0]
        for form, session in sessions.items()
    }
    if importlib.util.find_spec("openvino"):
        runs["openvino on ours"] = openvino_run(folder / "ours.onnx", pixels)
    features = {name: run() for name, run in runs.items()}
    largest = float(np.abs(features["plain"]).max())
    apart = {name: float(np.abs(value - features["plain"]).max()) / largest for name, value in features.items()}
    series = time_in_turn(runs, rounds=rounds)
    times = {
        name: {
            **summary(samples),
            "of_plain": round(median_ratio(samples, series["plain"]), 3),
            "max_abs_apart_from_plain": apart[name],
        }
        for name, samples in series.items()
    }
    merge_results(RESULT, **graphs_measured_on("openvino"), times={encoder: times})
    for name, row in times.items():
        print(
            f"{encoder} {name}: {row['median_ms']} ms, {row['of_plain']} of plain, apart {apart[name]:.1e}", flush=True
        )


def openvino_run(path: Path, pixels: np.ndarray):
    """OpenVINO in FP32 (its default on a CPU with bfloat16 units is bfloat16), one picture at a time."""
    import openvino

    options = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": THREADS,
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = openvino.Core().compile_model(str(path), "CPU", options)
    request = compiled.create_infer_request()
    return lambda: request.infer([pixels])[compiled.output(0)].copy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=("make", "time"))
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--encoder", nargs="+", choices=ENCODERS, default=list(ENCODERS))
    parser.add_argument("--rounds", type=int, default=12)
    arguments = parser.parse_args()
    for encoder in arguments.encoder:
        if arguments.step == "make":
            make(encoder, arguments.folder / encoder)
        else:
            measure(encoder, arguments.folder / encoder, arguments.rounds)


if __name__ == "__main__":
    main()
