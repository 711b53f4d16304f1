"""Build full-size vision towers with TensorRT-RTX: seconds, engine size, memory of the builder. Needs no GPU.

    python benchmarks/engine_builds.py [--encoder aimv2 …] [--precision fp16 …] [--depth 1/2] [--folder DIR]

The towers have the published sizes and random weights, which a compiler does not mind. Each is built twice through
``laco-engine build``'s own code: once for all of TensorRT-RTX's compute capabilities, once again to see the cache hit.
A tower's result is written as soon as it is there; those that are there already are left alone (``--force``).
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from laco_engines.building.builder import BuildOptions, build_bundle
from laco_engines.building.engine_cache import EngineCache
from laco_engines.building.graph_cost import graph_cost
from laco_engines.building.targets import resolve_target
from laco_export.bundle import Bundle, Manifest, open_bundle, write_manifest
from laco_export.exporter import vision_graph
from laco_export.exporter.half_formats import HALF_FORMATS
from laco_export.exporter.precision import choose_fp32
from laco_export.exporter.ranges import measure_ranges
from laco_export.exporter.targets import TARGETS
from laco_export.exporter.tower import VisionTower
from laco_export.models import LacoConfig, LacoForConditionalGeneration
from laco_export.models.published_sizes import qwen2_5_0_5b_config, vision_config

RESULTS = Path(__file__).resolve().parent / "results" / "engine_builds.json"
ENCODERS = {
    "aimv2": "aimv2-large-patch14-336",
    "siglip": "siglip-so400m-patch14-384",
    "internvit": "internvit-300m-448px",
    "clip": "clip-vit-large-patch14-336",
}
PRECISIONS = ("fp32", "fp16", "bf16")


def export_graph(encoder: str, precision: str, depth: str, folder: Path) -> Bundle:
    """A bundle with the vision graph alone: traced, rewritten, in ``precision``; without proof, since it has no weights
    to prove anything about."""
    import torch

    torch.manual_seed(0)
    text = qwen2_5_0_5b_config()
    text.num_hidden_layers = text.vocab_size = 1  # only its width is needed
    config = LacoConfig(vision_config(ENCODERS[encoder]), text, {"method": "laco", "depths": [depth]})
    tower = VisionTower(LacoForConditionalGeneration(config).eval()).eval()
    size = tower.vision_model.spec.image_size(config.vision_config)
    target = TARGETS["trt10.3"]
    traced = [vision_graph.trace_and_rewrite(tower, (1, 3, *size), opset=target.opsets[-1])]
    if precision != "fp32":
        form = HALF_FORMATS[precision]
        picture = np.random.default_rng(0).standard_normal((1, 3, *size), np.float32)
        kept = choose_fp32(traced[0].graph, measure_ranges(traced[0].graph, [picture]), form)
        traced = vision_graph.in_half(traced, kept, form)
    vision = vision_graph.write(traced, folder, precision=precision, target=target)
    (folder / vision_graph.marked(vision.graphs[0].file)).unlink()
    facts = {"source": {"name": ENCODERS[encoder]}, "encoder": {}, "compression": {"depth": depth}}
    write_manifest(folder, Manifest("benchmark", {}, **facts, vision=vision, preprocessing={}, golden="", accuracy={}))
    return open_bundle(folder)


def measure(encoder: str, precision: str, depth: str, folder: Path) -> dict:
    """Export, build, and build again."""
    start = time.perf_counter()
    bundle = export_graph(encoder, precision, depth, folder)
    exported = time.perf_counter() - start
    gc.collect()
    cost = graph_cost(bundle.file(bundle.manifest.vision.graphs[0].file))
    cache = EngineCache(folder / "engines")
    target = resolve_target("rtx")
    start, before = time.perf_counter(), os.times()
    (first,) = build_bundle(bundle, target, BuildOptions(), cache=cache)
    wall, after = time.perf_counter() - start, os.times()
    start = time.perf_counter()
    (second,) = build_bundle(bundle, target, BuildOptions(), cache=cache)
    assert second.status == "cached"
    return {
        "encoder": ENCODERS[encoder],
        "precision": precision,
        "depth": depth,
        "nodes": sum(bundle.manifest.vision.nodes.values()),
        "kept_fp32": len(bundle.manifest.vision.kept_fp32),
        "gflops": cost.total_flops / 1e9,
        "weights_bytes": cost.weight_bytes,
        "activation_bytes": cost.activation_bytes,
        "export_s": round(exported, 1),
        "build_s": first.built.seconds,
        "wall_s": round(wall, 2),
        "cpu_over_wall": round(sum(after[:4]) / wall - sum(before[:4]) / wall, 2),
        "engine_bytes": first.built.plan_bytes,
        "engine_over_weights": round(first.built.plan_bytes / cost.weight_bytes, 4),
        "builder_peak_bytes": first.built.peak_host_bytes,
        "builder_peak_over_weights": round(first.built.peak_host_bytes / cost.weight_bytes, 3),
        "warnings": list(first.built.warnings),
        "second_build": second.status,
        "second_build_s": round(time.perf_counter() - start, 2),
        "compute_capabilities": list(target.compute_capabilities),
        "library": f"{target.library} {target.version}",
    }


def cpu_model() -> str:
    """As Linux names it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", nargs="+", choices=ENCODERS, default=list(ENCODERS))
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--depth", default="1/2")
    parser.add_argument("--folder", type=Path, help="work here; default: a temporary folder (about 4 GB at a time)")
    parser.add_argument("--force", action="store_true", help="measure again what is in the results")
    arguments = parser.parse_args()
    document = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"results": {}}
    document["device"] = f"{os.cpu_count()} {platform.machine()} cores, {cpu_model()}"
    for encoder in arguments.encoder:
        for precision in arguments.precision:
            name = f"{encoder} {precision} @{arguments.depth}"
            if name in document["results"] and not arguments.force:
                continue
            with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
                result = measure(encoder, precision, arguments.depth, Path(folder))
            document["results"][name] = result
            RESULTS.write_text(json.dumps(document, indent=1) + "\n")
            print(
                f"{name}: {result['build_s']:.1f} s, engine {result['engine_bytes'] / 2**20:,.0f} MiB "
                f"({result['engine_over_weights']:.3f} of the weights), builder's peak "
                f"{result['builder_peak_bytes'] / 2**20:,.0f} MiB, then {result['second_build']}",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
