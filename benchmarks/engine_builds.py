"""Build full-size vision towers with TensorRT-RTX: seconds, engine size, memory of the builder. Needs no GPU.

    python benchmarks/engine_builds.py [--encoder aimv2 …] [--depth 1/2 …] [--precision fp16 …] [--folder DIR]

The towers have the published sizes and random weights, which a compiler does not mind. Each is built twice through
``laco-engine build``'s own code: once for all of TensorRT-RTX's compute capabilities that take it, once more to see
the cache hit. A tower's result is written as soon as it is there; those that are there already are left alone
(``--force``). ``build_cpu_s`` is the builder's processor time: on a shared machine it says more than ``build_s``.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from published_bundles import published_bundles
from published_towers import ENCODERS

from laco_engines.building.build_device import resolve_device
from laco_engines.building.builder import BuildOptions, build_bundle
from laco_engines.cost.graph_cost import graph_cost
from laco_engines.devices.state import machine_state
from laco_engines.store.engine_cache import EngineCache
from laco_export.atomic import write_json
from laco_export.bundle import Bundle

RESULTS = Path(__file__).resolve().parent / "results" / "engine_builds.json"
DEPTHS = ("1", "1/2", "1/4")
PRECISIONS = ("fp32", "fp16")


def measure(bundle: Bundle, cache: EngineCache) -> dict:
    """Build, and build again."""
    (graph,) = bundle.manifest.vision.graphs
    cost, device = graph_cost(bundle.file(graph.file)), resolve_device("rtx")
    before = os.times()
    (first,) = build_bundle(bundle, device, BuildOptions(), cache=cache)
    after = os.times()
    start = time.perf_counter()
    (second,) = build_bundle(bundle, device, BuildOptions(), cache=cache)
    seconds = time.perf_counter() - start
    if second.status != "cached":
        raise RuntimeError(f"the second build was {second.status}")
    vision = bundle.manifest.vision
    return {
        "tower": bundle.manifest.source["name"],
        "precision": vision.precision,
        "depth": bundle.manifest.compression["depth"],
        "nodes": sum(vision.nodes.values()),
        "kept_fp32": len(vision.kept_fp32),
        "gflops": round(cost.total_flops / 1e9, 2),
        "weights_bytes": cost.weight_bytes,
        "activation_bytes": cost.activation_bytes,
        "build_s": first.built.seconds,
        "build_cpu_s": round(after.children_user + after.children_system - before[2] - before[3], 1),
        "engine_bytes": first.built.plan_bytes,
        "engine_over_weights": round(first.built.plan_bytes / cost.weight_bytes, 4),
        "builder_peak_bytes": first.built.peak_host_bytes,
        "builder_peak_over_weights": round(first.built.peak_host_bytes / cost.weight_bytes, 3),
        "warnings": list(first.built.warnings),
        "second_build": second.status,
        "second_build_s": round(seconds, 2),
        "compute_capabilities": list(first.stored.key.compute_capabilities),
        "library": f"{device.library} {device.version}",
    }


def read_results() -> dict:
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {"results": {}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", nargs="+", choices=ENCODERS, default=list(ENCODERS))
    parser.add_argument("--depth", nargs="+", default=list(DEPTHS))
    parser.add_argument("--precision", nargs="+", choices=("fp32", "fp16", "bf16"), default=list(PRECISIONS))
    parser.add_argument("--folder", type=Path, help="work here; default: a temporary folder (about 4 GB at a time)")
    parser.add_argument("--force", action="store_true", help="measure again what is in the results")
    arguments = parser.parse_args()
    for encoder in arguments.encoder:
        for depth in arguments.depth:
            title = f"{encoder} @{depth}"
            measured = () if arguments.force else read_results()["results"]
            wanted = [precision for precision in arguments.precision if f"{title} {precision}" not in measured]
            if not wanted:
                continue
            with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
                for precision, bundle in published_bundles(encoder, depth, wanted, Path(folder)):
                    gc.collect()
                    result = measure(bundle, EngineCache(Path(folder) / "engines"))
                    document = read_results()  # again: another encoder may be measured beside this one
                    document["results"][f"{title} {precision}"] = result
                    write_json(RESULTS, {**document, "device": machine_state().cpu})
                    print(
                        f"{title} {precision}: {result['build_s']:.1f} s, engine {result['engine_bytes'] / 2**20:,.0f} "
                        f"MiB ({result['engine_over_weights']:.3f} of the weights), builder's peak "
                        f"{result['builder_peak_bytes'] / 2**20:,.0f} MiB, then {result['second_build']}",
                        flush=True,
                    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
