"""Where the time of a decode step goes: by kind of node, beside the rate at which the machine reads memory.

    python benchmarks/decoder_models.py --folder DIR
    python benchmarks/decoder_step.py --folder DIR [--precisions fp32 int8 int4] [--steps 40] [--rounds 5]

Qwen2.5-0.5B's shape on the lean text runtime, one thread, :data:`PROMPT` positions in the cache. A step is timed as
it is (CPU time of ``LeanDecoder.step``, and of ONNX Runtime's run inside it), and profiled node by node in its own
session. For each kind of node: milliseconds a step, the bytes of weights that it reads, and those bytes over its
time. The machine's own rate is that of a dot product over float32 numbers that lie in no cache, taken in turn with
the steps. Medians over rounds; precisions in turn.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from decoder_models import PROMPT, decoder_bundle
from measured_on import measured_on
from page_rows import replace_rows

from laco_engines.generation.lean_decoder import LeanDecoder
from laco_export.atomic import write_json
from laco_export.embedding_table import EmbeddingTable
from laco_export.onnx_session import session_options

RESULTS = Path(__file__).resolve().parent / "results" / "decoder_step.json"
PAGE = Path(__file__).resolve().parents[1] / "docs" / "decoder.md"
READ_NUMBERS = 64 * 2**20  # float32: 256 MiB, more than any cache
PRODUCTS = ("MatMulNBits", "FusedMatMul", "MatMul", "Gemm")
NORMS = ("SimplifiedLayerNormalization", "SkipSimplifiedLayerNormalization")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="what decoder_models.py wrote")
    parser.add_argument("--precisions", nargs="+", default=["fp32", "int8", "int4"])
    parser.add_argument("--steps", type=int, default=40, help="a round (default: 40)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    subjects = {name: ProfiledDecoder(arguments.folder / name) for name in arguments.precisions}
    numbers = np.ones(READ_NUMBERS, np.float32)
    rates: list[float] = []
    for _ in range(arguments.rounds):
        rates.append(numbers.nbytes / cpu_time_of(lambda: np.dot(numbers, numbers)) / 1e9)
        for subject in subjects.values():
            subject.measure(arguments.steps)
    document = {
        **measured_on("onnxruntime", "numpy"),
        "threads": 1,
        "positions": PROMPT,
        "steps_a_round": arguments.steps,
        "rounds": arguments.rounds,
        "memory_gb_s": round(statistics.median(rates), 1),
        "precisions": {name: subject.summary() for name, subject in subjects.items()},
    }
    write_json(arguments.output, document)
    if arguments.output == RESULTS:
        replace_rows(PAGE, RESULTS.name, table_of(document))
    print(table_of(document))
    print(f"\nA dot product reads memory at {document['memory_gb_s']} GB/s.")


def cpu_time_of(run: Callable[[], object]) -> float:
    """Seconds."""
    started = time.process_time()
    run()
    return time.process_time() - started


class ProfiledDecoder:
    """A decoder as it is run, and the same graph with a profile."""

    def __init__(self, path: Path):
        decoder = decoder_bundle(path).manifest.decoder
        graph, table = path / decoder.graph, EmbeddingTable(path, decoder.embedding)
        self._profiles = tempfile.TemporaryDirectory()
        self._kinds, self.weight_bytes = kinds_of_nodes(graph)
        self._plain = _at_prompt(LeanDecoder(_session(graph), table))
        self._profiled = _at_prompt(LeanDecoder(_session(graph, f"{self._profiles.name}/step"), table))
        self._steps_profiled = 0
        self._samples: dict[str, list[float]] = {"step": [], "run": [], "wall": []}

    def measure(self, steps: int) -> None:
        """One round of so many steps, plain and profiled."""
        decoder, cache = self._plain
        session = _TimedRuns(decoder.session)
        decoder.session = session
        started, begun = time.process_time(), time.perf_counter()
        _go_on(decoder, cache, steps)
        self._samples["step"].append(1000 * (time.process_time() - started) / steps)
        self._samples["wall"].append(1000 * (time.perf_counter() - begun) / steps)
        self._samples["run"].append(1000 * session.seconds / steps)
        decoder.session = session.session
        _go_on(*self._profiled, steps)
        self._steps_profiled += steps

    def summary(self) -> dict:
        """Medians over the rounds, and each kind's mean share of the profiled steps."""
        events = json.loads(Path(self._profiled[0].session.end_profiling()).read_text())
        spent = self._milliseconds(events)
        step, run, wall = (statistics.median(self._samples[name]) for name in ("step", "run", "wall"))
        return {
            "step_ms": round(step, 2),
            "outside_onnxruntime_ms": round(step - run, 2),
            "cpu_over_wall": round(step / wall, 2),
            "kinds": {
                kind: {
                    "ms": round(ms, 3),
                    "weights_mb": round(self.weight_bytes[kind] / 1e6, 1),
                    "gb_s": round(self.weight_bytes[kind] / ms / 1e6, 1),
                }
                for kind, ms in spent.most_common()
            },
            "samples": {name: [round(ms, 2) for ms in samples] for name, samples in self._samples.items()},
        }

    def _milliseconds(self, events: list[dict]) -> Counter:
        """Of each kind, a step; the prompt's pass, which comes first, left out."""
        kernels = [event for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")]
        a_pass = len(kernels) // (self._steps_profiled + 1)
        spent: Counter = Counter()
        for event in kernels[a_pass:]:
            kind = self._kinds.get(event["name"].removesuffix("_kernel_time"), "activations and the rest")
            spent[kind] += event["dur"] / 1000 / self._steps_profiled
        return spent


class _TimedRuns:
    """A session that adds up the CPU time of its runs."""

    def __init__(self, session):
        self.session, self.seconds = session, 0.0

    def run_with_iobinding(self, binding) -> None:
        self.seconds += cpu_time_of(lambda: self.session.run_with_iobinding(binding))

    def __getattr__(self, name: str):
        return getattr(self.session, name)


def _session(graph: Path, profile: str | None = None) -> onnxruntime.InferenceSession:
    options = session_options(threads=1)
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, profile
    return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def _at_prompt(decoder: LeanDecoder):
    """The decoder with a cache that holds :data:`PROMPT` random tokens."""
    ids = np.random.default_rng(0).integers(0, decoder.vocab_size, PROMPT)
    cache = decoder.new_cache(2 * PROMPT)
    decoder.prefill([decoder.embed(ids)], cache)
    return decoder, cache


def _go_on(decoder: LeanDecoder, cache, steps: int) -> None:
    """Greedy steps behind the prompt, the same on every call."""
    cache.lengths, token = [PROMPT], 0
    for _ in range(steps):
        token = int(decoder.step([token], cache, [True])[0].argmax())


def kinds_of_nodes(graph: Path) -> tuple[dict[str, str], dict[str, int]]:
    """What each node is, by its name, and the bytes of weights that each kind reads in a step."""
    model = onnx.load(graph, load_external_data=False)
    stored = {tensor.name: _bytes_of(tensor) for tensor in model.graph.initializer}
    kinds, weight_bytes = {}, defaultdict(int)
    for node in model.graph.node:
        kinds[node.name] = kind = _kind_of(node)
        if node.op_type in PRODUCTS:  # attention reads a row of its tables
            weight_bytes[kind] += sum(stored.get(name, 0) for name in node.input)
    return kinds, weight_bytes


def _kind_of(node: onnx.NodeProto) -> str:
    if node.op_type in PRODUCTS:
        return "head" if "logits" in node.output[0] else "products of the layers"
    if node.op_type == "GroupQueryAttention":
        return "attention"
    return "norms" if node.op_type in NORMS else "activations and the rest"


def _bytes_of(tensor: onnx.TensorProto) -> int:
    length = {entry.key: entry.value for entry in tensor.external_data}.get("length")
    return int(length) if length is not None else len(tensor.raw_data)


def table_of(document: dict) -> str:
    """Milliseconds a step and GB/s by kind and precision, as Markdown."""
    names = list(document["precisions"])
    lines = [f"| CPU time a step, ms (GB/s) | {' | '.join(names)} |", "|---|" + "--:|" * len(names)]
    kinds = [kind for name in names for kind in document["precisions"][name]["kinds"]]
    for kind in dict.fromkeys(kinds):
        cells = [_cell(document["precisions"][name]["kinds"].get(kind)) for name in names]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    for title, key in (("outside ONNX Runtime", "outside_onnxruntime_ms"), ("a step as it is", "step_ms")):
        cells = [f"{document['precisions'][name][key]:.2f}" for name in names]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(kind: dict | None) -> str:
    if kind is None:
        return ""
    return f"{kind['ms']:.2f}" + (f" ({kind['gb_s']:.1f})" if kind["weights_mb"] >= 1 else "")


if __name__ == "__main__":
    main()
