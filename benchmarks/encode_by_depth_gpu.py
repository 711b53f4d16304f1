"""Encode time by depth on a CUDA device, by every runtime that takes it, beside the FLOP ratio. One command:

    python benchmarks/encode_by_depth_gpu.py

For AIMv2-L/336 @1, 1/2, 1/4 at batch 1, 5 and 10: ONNX Runtime CUDA FP16, TensorRT and TensorRT-RTX FP16 (whichever is
installed and takes the device), PyTorch eager and torch.compile FP16. All subjects run in turn. A call takes pictures
from host memory and gives the features back to it, for all alike. Every output is compared with FP32 PyTorch. The
weights are random: speed and parity carry over, answers do not.

Needs: pip install 'laco-export[gpu]' (or [cpu] with onnxruntime-gpu and tensorrt-rtx) and a PyTorch with CUDA.
``--rehearse`` runs the same code on the CPU, to check the script itself: one depth, one picture, nothing is written.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

import numpy as np
from published_bundles import published_bundles
from published_towers import pixel_shape, published_tower

from laco_engines.bench.plot import DepthPoint, draw_by_depth
from laco_engines.building.build_device import BuildDevice
from laco_engines.building.builder import BuildOptions, build_bundle
from laco_engines.building.verification import open_engines
from laco_engines.cost.graph_cost import graph_cost
from laco_engines.cost.roofline import floor_of
from laco_engines.devices.cuda import present_device
from laco_engines.devices.profiles import device_profile
from laco_engines.devices.state import machine_state
from laco_engines.packages import library_version
from laco_engines.runtimes import open_runtime
from laco_engines.store.engine_cache import EngineCache
from laco_export.agreement import Tolerance, agreement
from laco_export.atomic import write_json
from laco_export.charts import save_chart
from laco_export.errors import LacoError
from laco_export.machine import library_versions
from laco_export.timing import interleave

RESULTS = Path(__file__).resolve().parent / "results" / "encode_by_depth_gpu.json"
LIBRARIES = ("torch", "onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt-rtx", "onnx", "transformers")
TOLERANCE = Tolerance(cosine=0.999, norm_drift=0.01, max_abs=0.05)
"""Of FP16 against FP32 PyTorch over 24 blocks; the exporter's own for FP16 graphs are tighter, on trained weights."""
Encode = Callable[[np.ndarray], np.ndarray]


def runtimes(bundle, device, cache: EngineCache, notes: list[str]) -> Iterator[tuple[str, Encode]]:
    """``(name, encode)`` of each runtime that takes the device; why another does not goes into ``notes``."""
    provider = "cpu" if device is None else "cuda"
    try:
        yield f"onnxruntime-{provider}", open_runtime(bundle, name="onnxruntime", provider=provider).encode
    except LacoError as error:
        notes.append(f"onnxruntime-{provider}: {error.failed}")
    for library in ("tensorrt", "tensorrt_rtx"):
        name, installed = library.replace("_", "-"), library_version(library)
        if device is None or installed is None:
            notes.append(f"{name}: {'no device' if installed else 'not installed'}")
            continue
        capabilities = (device.capability,) if library == "tensorrt_rtx" else ()
        build_device = BuildDevice(library, installed, device, capabilities, device_profile(device))
        try:
            results = build_bundle(bundle, build_device, BuildOptions(), cache=cache)
            yield name, open_engines(bundle, build_device, results).encode
        except LacoError as error:
            notes.append(f"{name}: {error.failed}: {error.given}")


def in_pytorch(tower, device: str, *, compiled: bool) -> Encode:
    """The tower in PyTorch, FP16 on a GPU: host memory in, host memory out."""
    import torch

    half = torch.float16 if device == "cuda" else torch.float32
    tower = tower.to(device, half)
    features = lambda pixels: tower(pixels)[0]  # [B, tokens, D]; the other outputs are the boundaries for the proof
    run = torch.compile(features, mode="max-autotune") if compiled else features

    @torch.inference_mode()
    def encode(pixels: np.ndarray) -> np.ndarray:
        source = torch.from_numpy(pixels)
        source = source.pin_memory() if device == "cuda" else source
        return run(source.to(device, half, non_blocking=True)).float().cpu().numpy()

    return encode


def subjects(arguments, device, folder: Path, notes: list[str]) -> Iterator[tuple[str, str, Encode, dict]]:
    """``(runtime, depth, encode, facts)``; ``facts`` has FP32 PyTorch's features and the costs by batch."""
    import torch

    where = "cpu" if device is None else "cuda"
    largest = max(arguments.batch)
    for depth in arguments.depth:
        tower = published_tower("aimv2", depth)
        pixels = np.random.default_rng(0).standard_normal((largest, *pixel_shape(tower)[1:]), np.float32)
        with torch.inference_mode():
            expected = np.concatenate([tower(tile[None])[0].numpy() for tile in torch.from_numpy(pixels)])
        inside = folder / depth.replace("/", "_")
        ((_, bundle),) = published_bundles("aimv2", depth, ["fp16"], inside, arguments.batch)
        costs = {graph.batch: graph_cost(bundle.file(graph.file)) for graph in bundle.manifest.vision.graphs}
        facts = {"pixels": pixels, "expected": expected, "costs": costs}
        for name, encode in runtimes(bundle, device, EngineCache(folder / "engines"), notes):
            yield name, depth, encode, facts
        yield "pytorch-eager", depth, in_pytorch(tower, where, compiled=False), facts
        yield "pytorch-compile", depth, in_pytorch(tower, where, compiled=True), facts
        gc.collect()


def measure(arguments, device) -> dict:
    """All subjects in turn; one record each."""
    notes: list[str] = []
    profile = device_profile(device)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        records, runs = {}, {}
        for name, depth, encode, facts in subjects(arguments, device, Path(folder), notes):
            agrees = agreement("image_features", facts["expected"], encode(facts["pixels"]), TOLERANCE)
            print(f"{name} @{depth}: {agrees.numbers()}", flush=True)
            for batch in arguments.batch:
                cost, key = facts["costs"][batch], f"{name} @{depth} batch {batch}"
                floor = profile and floor_of(
                    cost.flops, cost.least_traffic, peak_flops=profile.peak_flops, bandwidth=profile.bandwidth
                )
                records[key] = {
                    "runtime": name,
                    "depth": depth,
                    "batch": batch,
                    "gflops": cost.total_flops / 1e9,
                    "floor_ms": floor.ms if floor else None,
                    "bound": floor.bound if floor else None,
                    "against_fp32_pytorch": {
                        "cosine": agrees.cosine,
                        "norm_ratio": agrees.norm_ratio,
                        "within": agrees.within(),
                    },
                }
                pixels = facts["pixels"][:batch]
                runs[key] = (lambda encode=encode, pixels=pixels: encode(pixels), device is None)
        print(f"{len(runs)} subjects in turn", flush=True)
        measured = interleave(runs, repeats=arguments.repeats, warmup=arguments.warmup)
    for key, series in measured.items():
        records[key] |= {
            "p50_ms": series.quantile(0.5),
            "p95_ms": series.quantile(0.95),
            "samples": len(series.accepted),
            "rejected": series.rejected,
        }
    _add_ratios(records)
    return {"notes": sorted(set(notes)), "results": list(records.values())}


def _add_ratios(records: dict[str, dict]) -> None:
    """Time and FLOPs of each beside the same runtime's and batch's @1, where that was measured."""
    for record in records.values():
        whole = records.get(f"{record['runtime']} @1 batch {record['batch']}")
        record["time_to_1"] = record["p50_ms"] / whole["p50_ms"] if whole else None
        record["flops_to_1"] = record["gflops"] / whole["gflops"] if whole else None


def show(records: list[dict]) -> None:
    """A table for people."""
    shape = "{:<18} {:>5} {:>5} {:>9} {:>9} {:>9} {:>8} {:>8}  {}"
    print(shape.format("runtime", "depth", "batch", "p50 ms", "p95 ms", "floor ms", "to @1", "FLOPs", "FP32 PyTorch"))
    ratio = lambda value: "-" if value is None else f"{value:.3f}"
    for record in records:
        agrees = record["against_fp32_pytorch"]
        verdict = f"cosine {agrees['cosine']:.6f} {'ok' if agrees['within'] else 'FAIL'}"
        print(
            shape.format(
                record["runtime"], record["depth"], record["batch"], f"{record['p50_ms']:.2f}",
                f"{record['p95_ms']:.2f}", ratio(record["floor_ms"]), ratio(record["time_to_1"]),
                ratio(record["flops_to_1"]), verdict,
            )
        )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--depth", nargs="+", default=["1", "1/2", "1/4"])
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 5, 10])
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--warmup", type=int, default=10)
    parser.add_argument("--folder", type=Path, help="work here; default: a temporary folder (about 5 GB)")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU: checks the script, measures nothing")
    arguments = parser.parse_args()
    device = None if arguments.rehearse else present_device()
    if device is None and not arguments.rehearse:
        print(
            "no CUDA device here, so nothing was measured. Run the same command on a machine with one; "
            "--rehearse checks the script on the CPU.",
            file=sys.stderr,
        )
        return 1
    if arguments.rehearse:
        arguments.depth, arguments.batch, arguments.repeats, arguments.warmup = ["1/2"], [1], 1, 1
    else:
        import torch

        if not torch.cuda.is_available():
            print("PyTorch does not see the GPU: install a PyTorch with CUDA", file=sys.stderr)
            return 1
    before = machine_state()
    document = {
        "machine": before.to_dict(),
        "versions": library_versions(LIBRARIES),
        "warmup": arguments.warmup,
        "repeats": arguments.repeats,
        "tolerance": asdict(TOLERANCE),
        **measure(arguments, device),
        "machine_after": machine_state().to_dict(),
    }
    show(document["results"])
    print("\n".join(document["notes"]))
    agrees = all(record["against_fp32_pytorch"]["within"] for record in document["results"])
    if arguments.rehearse:
        print("rehearsed on the CPU; nothing was written")
        return 0 if agrees else 1
    write_json(RESULTS, document)
    series: dict[str, list[DepthPoint]] = {}
    for record in document["results"]:
        point = DepthPoint(float(Fraction(record["depth"])), record["p50_ms"] / record["batch"], record["gflops"])
        series.setdefault(f"{record['runtime']}, batch {record['batch']}", []).append(point)
    shown = {name: points for name, points in series.items() if name.endswith("batch 5")} or series
    save_chart(draw_by_depth(shown, f"AIMv2-L/336 encode time by depth: {before.gpu}"), RESULTS.with_suffix(".png"))
    print(f"written: {RESULTS}, {RESULTS.with_suffix('.png').name}")
    return 0 if agrees else 1


if __name__ == "__main__":
    sys.exit(main())
