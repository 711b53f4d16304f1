"""Encode time of AIMv2-L/336 by the depth of the merge, beside the FLOP ratio, and where the difference goes.

    python benchmarks/encode_by_depth.py make --folder DIR      # the five graphs, as --target ort-cpu writes them: 7 GB
    python benchmarks/encode_by_depth.py time --folder DIR      # @1 and each other depth in turn
    python benchmarks/encode_by_depth.py profile --folder DIR   # ONNX Runtime's time per node, by part of the tower
    python benchmarks/encode_by_depth.py account                # where the difference goes
    python benchmarks/encode_by_depth.py kernels [--threads 1]  # the Linear layers alone, by tokens and threads

ONNX Runtime's CPU provider, FP32, batch 1, two threads, random weights of the published size. The accounting writes
the gap between time and FLOPs as a sum over parts: a part's share of @1's time less its share of @1's FLOPs. A part
that runs at @1's average speed adds nothing, however much of it there is.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import graph_timing
import numpy as np
from graph_timing import (
    graphs_measured_on,
    median_ratio,
    merge_results,
    open_session,
    random_pixels,
    summary,
    time_in_turn,
)
from published_towers import DEPTHS, pixel_shape, published_config, published_tower

RESULT = "encode_by_depth"
PROFILED_RUNS, KERNEL_ROUNDS = 5, 9
ALLOWED = {"1/2": 0.03, "1/4": 0.05, "1/6": 0.08, "1/12": 0.08}
"""How far above the FLOP ratio the time's ratio may be."""
CHANNELS, WIDTH, TOKENS, MERGED = 1024, 2816, 576, 144  # of AIMv2-L/336
BLOCK_LAYERS = ((4, CHANNELS, CHANNELS), (2, CHANNELS, WIDTH), (1, WIDTH, CHANNELS))
"""Linear layers of a block: how many, inputs, outputs."""


def graph_path(folder: Path, depth: str) -> Path:
    return folder / f"at{depth.replace('/', '_')}" / "vision_b1.onnx"


def make(folder: Path, depths: Sequence[str] = DEPTHS) -> None:
    """Write the graph of each depth, where it is not there yet."""
    from laco_export.exporter import vision_graph
    from laco_export.exporter.targets import TARGETS

    target = TARGETS["ort-cpu"]
    for depth in depths:
        path = graph_path(folder, depth)
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        tower = published_tower("aimv2", depth)
        traced = vision_graph.trace_and_rewrite(tower, pixel_shape(tower), opset=target.opsets[-1])
        vision_graph.write_vision(
            vision_graph.for_target(traced, target, (1,)), path.parent, precision="fp32", target=target
        )
        (path.parent / vision_graph.marked(path.name)).unlink()
        del tower, traced
        gc.collect()


def flop_ratio(depth: str) -> float:
    from laco_export.models.flops import vision_flops

    return vision_flops(published_config("aimv2", depth)).total / vision_flops(published_config("aimv2", "1")).total


def measure(folder: Path, depths: list[str], rounds: int) -> None:
    full = open_session(graph_path(folder, "1"))
    pixels = random_pixels(full)
    for depth in depths:
        session = open_session(graph_path(folder, depth))
        runs = {"1": lambda: full.run(None, pixels), depth: lambda session=session: session.run(None, pixels)}
        series = time_in_turn(runs, rounds=rounds)
        ratio, flops = median_ratio(series[depth], series["1"]), flop_ratio(depth)
        times = {
            "ratio_to_1": round(ratio, 4),
            "flop_ratio": round(flops, 4),
            "above_flops": round(ratio / flops - 1, 4),
            "allowed": ALLOWED[depth],
            "at_1": summary(series["1"]),
            "at_depth": summary(series[depth]),
        }
        merge_results(RESULT, **graphs_measured_on(), times={depth: times})
        print(f"@{depth}: {ratio:.3f} of @1, FLOPs {flops:.3f}: {ratio / flops - 1:+.1%}", flush=True)
        del session, runs, series
        gc.collect()


def profile(folder: Path, depths: list[str]) -> None:
    """Time every node at each depth; keep what each part of the tower took and computed."""
    for depth in depths:
        profiled = profiled_parts(graph_path(folder, depth))
        parts = {name: {"ms": round(ms, 2), "gflop": round(flops / 1e9, 2)} for name, (ms, flops) in profiled.items()}
        merge_results(RESULT, profile={depth: parts})


def account() -> None:
    """Print, from the results, each part's speed and its share of the gap to the FLOP ratio.

    A part's gap is its time over @1's, less its FLOPs over @1's. @1's time is the timed one of the depth whose rounds
    stalled least, not the profiled one, and a profile that took much longer than the timed run (the machine stalled) is
    not accounted for.
    """
    results = json.loads((graph_timing.RESULTS / f"{RESULT}.json").read_text())
    full_flops = sum(part["gflop"] for part in results["profile"]["1"].values())
    full_ms = min(timed["at_1"]["median_ms"] for timed in results["times"].values())
    accounting = {}
    for depth, timed in results["times"].items():
        parts = results["profile"][depth]
        total = sum(part["ms"] for part in parts.values())
        if total > 1.15 * timed["at_depth"]["median_ms"]:
            print(f"@{depth}: the profiled run stalled ({total:.0f} ms); run profile again")
            continue
        lines = {
            name: {
                "gflops_per_s": round(1e3 * part["gflop"] / part["ms"], 1),
                "gap": round(part["ms"] / full_ms - part["gflop"] / full_flops, 4),
            }
            for name, part in parts.items()
        }
        gap = sum(line["gap"] for line in lines.values())
        accounting[depth] = {"profiled_ms": round(total, 1), "at_1_ms": full_ms, "gap": round(gap, 4), "parts": lines}
        print(f"@{depth}: {total:.1f} ms profiled, share of @1's time less share of its FLOPs {gap:+.4f}")
        for name, line in lines.items():
            ms = parts[name]["ms"]
            print(f"   {name:50} {ms:7.1f} ms {line['gflops_per_s']:6.1f} GFLOP/s  gap {line['gap']:+.4f}")
    merge_results(RESULT, accounting=accounting)


def profiled_parts(path: Path) -> dict[str, tuple[float, float]]:
    """``part → (milliseconds, FLOPs)`` of one run: each node's median over the runs, added up by part."""
    session = open_session(path, profile=path.parent / "profile")
    pixels = random_pixels(session)
    for _ in range(1 + PROFILED_RUNS):
        session.run(None, pixels)
    trace = Path(session.end_profiling())
    events = json.loads(trace.read_text())
    trace.unlink()
    first = sorted(event["ts"] for event in events if event["name"] == "model_run")[1]  # the first run warms up
    taken, flops, part_of = defaultdict(list), {}, {}
    for event in events:
        if event.get("cat") != "Node" or not event["name"].endswith("_kernel_time") or event["ts"] < first:
            continue
        node, facts = event["name"], event["args"]
        taken[node].append(event["dur"] / 1e3)
        inputs = [next(iter(shape.values())) for shape in facts["input_type_shape"]]
        outputs = [next(iter(shape.values())) for shape in facts["output_type_shape"]]
        flops[node], part_of[node] = node_flops(facts["op_name"], inputs, outputs), part(node, facts["op_name"], inputs)
    parts: dict[str, tuple[float, float]] = {}
    for node, samples in taken.items():
        ms, work = parts.get(part_of[node], (0.0, 0.0))
        parts[part_of[node]] = ms + float(np.median(samples)), work + flops[node]
    return dict(sorted(parts.items(), key=lambda entry: -entry[1][0]))


def node_flops(op: str, inputs: list[list[int]], outputs: list[list[int]]) -> float:
    """Of one node; products only, as :mod:`laco_export.models.flops` counts."""
    if op in ("MatMul", "FusedMatMul", "Gemm"):
        return 2.0 * np.prod(outputs[0]) * inputs[0][-1]
    if op == "Conv":
        return 2.0 * np.prod(outputs[0]) * np.prod(inputs[1][1:])
    if op in ("Attention", "MultiHeadAttention"):
        batch, tokens, channels = inputs[0]
        return 4.0 * batch * tokens * tokens * channels
    return 0.0


def part(node: str, op: str, inputs: list[list[int]]) -> str:
    """Where in the tower a node is and what it is."""
    if "compressors" in node:
        return "merge"
    if "projector" in node:
        return "projector"
    if "embeddings" in node:
        return "embeddings"
    tokens = next((shape[-2] for shape in inputs if len(shape) == 3), TOKENS)
    tokens = MERGED if tokens == MERGED else TOKENS
    kinds = {
        **dict.fromkeys(("MatMul", "FusedMatMul", "Gemm"), "Linear layers"),
        **dict.fromkeys(("Attention", "MultiHeadAttention"), "attention"),
    }
    return f"blocks on {tokens} tokens: {kinds.get(op, 'norms, activation, additions')}"


def kernels(threads: int) -> None:
    """GFLOP/s of a block's Linear layers by tokens; what streaming their weights takes at the least."""
    cases = {
        (tokens, *layer[1:]): linear_session(tokens, *layer[1:])
        for tokens in (TOKENS, MERGED)
        for layer in BLOCK_LAYERS
    }
    speeds = defaultdict(list)
    for _ in range(KERNEL_ROUNDS):
        for (tokens, inputs, outputs), (session, features) in cases.items():
            work = 2 * tokens * inputs * outputs
            repeats = max(1, round(4e9 / work))
            start = time.perf_counter()
            for _ in range(repeats):
                session.run(None, {"x": features})
            speeds[tokens, inputs, outputs].append(work * repeats / (time.perf_counter() - start) / 1e9)
    medians = {" x ".join(map(str, case)): round(float(np.median(values)), 1) for case, values in speeds.items()}
    bandwidth = streaming_gb_per_s(threads)
    block_bytes = 4 * sum(count * inputs * outputs for count, inputs, outputs in BLOCK_LAYERS)
    facts = {
        "gflops_per_s_by_tokens_inputs_outputs": medians,
        "weights_streamed_gb_per_s": round(bandwidth, 1),
        "block_weights_mb": round(block_bytes / 1e6, 1),
        "block_weights_streamed_ms": round(block_bytes / bandwidth / 1e6, 2),
    }
    merge_results(RESULT, kernels={f"threads {threads}": facts})
    print(json.dumps(facts, indent=1))


def linear_session(tokens: int, inputs: int, outputs: int):
    import onnx
    from onnx import helper, numpy_helper

    random = np.random.default_rng(0)
    weight = numpy_helper.from_array(random.standard_normal((inputs, outputs), np.float32), "w")
    shapes = [
        helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1, tokens, s])
        for n, s in (("x", inputs), ("y", outputs))
    ]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "linear", shapes[:1], shapes[1:], [weight]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return open_session(model.SerializeToString()), random.standard_normal((1, tokens, inputs), np.float32)


def streaming_gb_per_s(threads: int) -> float:
    """Reading 512 MB, far more than the caches hold (a matrix by a vector)."""
    import torch

    torch.set_num_threads(threads)
    matrix, vector = torch.ones(16384, 8192), torch.ones(8192)
    taken = []
    for _ in range(KERNEL_ROUNDS):
        start = time.perf_counter()
        torch.mv(matrix, vector)
        taken.append(time.perf_counter() - start)
    return matrix.numel() * 4 / float(np.median(taken)) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=("make", "time", "profile", "account", "kernels"))
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--depth", nargs="+", choices=DEPTHS, default=list(DEPTHS))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=graph_timing.THREADS, help="of ``kernels``")
    arguments = parser.parse_args()
    if arguments.threads != graph_timing.THREADS and arguments.step != "kernels":
        parser.error("--threads is for kernels alone")
    graph_timing.THREADS = arguments.threads
    if arguments.step not in ("kernels", "account") and arguments.folder is None:
        parser.error("--folder is needed")
    if arguments.step == "make":
        make(arguments.folder)
    elif arguments.step == "time":
        measure(arguments.folder, [depth for depth in arguments.depth if depth != "1"], arguments.rounds)
    elif arguments.step == "profile":
        profile(arguments.folder, arguments.depth)
    elif arguments.step == "account":
        account()
    else:
        kernels(arguments.threads)


if __name__ == "__main__":
    main()
