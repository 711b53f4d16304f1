"""Language models of real weights on the engines that people use: speed, bytes and what they say, on one line.

    make real-parts; pip install llama-cpp-python gguf
    python -m venv PEERS; PEERS/bin/pip install openvino-genai onnxruntime-genai transformers onnx-ir torch
    python benchmarks/decoder_peers.py make --folder DIR --peers PEERS/bin/python [--models smollm2 qwen2.5-coder]
    python benchmarks/decoder_peers.py measure --folder DIR --peers PEERS/bin/python [--models …]

``make`` writes each engine's files of the same weights: ours at each width as ``laco-export --llm`` does, GGUF for
llama.cpp and OpenVINO GenAI without an importance matrix, and what onnxruntime-genai's model builder makes.

``measure``: each engine has a process of its own with one thread, those of one width loaded beside each other. A
round is a prompt of :data:`PROMPT` tokens of prose, from which one after the other says :data:`NEW_TOKENS` tokens
greedily; with one thread, CPU time is its work and says the same on a busy machine as on a free one. Beside it stand
the perplexity of the same prose by each engine's own logits, and how many tokens of an answer are those of our FP32
graph before the first other. Ratios are medians of rounds in turn; llama.cpp's width is the base.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import math
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from page_rows import replace_rows

ROOT = Path(__file__).resolve().parent.parent
RESULTS, PAGE = ROOT / "benchmarks" / "results" / "decoder_peers.json", ROOT / "docs" / "decoder.md"
PROMPT, NEW_TOKENS = 174, 64
MODELS = ("smollm2", "qwen2.5-coder")
GGUF_TYPES = ("F32", "Q8_0", "Q4_0")
BASE = "llama.cpp"


@dataclass(frozen=True)
class Engine:
    """A class of the package text_engines, and what it opens.

    Attributes:
        files: by width, under the model's folder.
        is_peer: runs in the environment of ``--peers``.
    """

    module: str
    kind: str
    files: dict[str, str]
    is_peer: bool = False


OURS = {"fp32": "fp32", "int8": "int8", "int4": "int4"}
ENGINES = {
    "lean": Engine("ours", "Lean", OURS),
    "optimum": Engine("ours", "Optimum", OURS),
    BASE: Engine("llama_cpp_engine", "LlamaCpp", {"fp32": "F32.gguf", "int8": "Q8_0.gguf", "int4": "Q4_0.gguf"}),
    "onnxruntime-genai": Engine("genai_engine", "GenAI", {"fp32": "genai-fp32", "int4": "genai-int4"}, is_peer=True),
    "OpenVINO GenAI": Engine(
        "openvino_engine",
        "OpenVINO",
        {"int8": "openvino-Q8_0/model.gguf", "int4": "openvino-Q4_0/model.gguf"},  # its reader refuses F32
        is_peer=True,
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", nargs="?", choices=("make", "measure"))
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--peers", type=Path, help="Python of the environment that holds the peers' packages")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--widths", nargs="+", default=list(OURS), choices=OURS)
    parser.add_argument("--windows", type=int, default=7, help="of prose: a round each (default: 7)")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--worker", nargs=2, metavar=("ENGINE", "FILE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(*arguments.worker)
    elif arguments.step is None or arguments.folder is None or arguments.peers is None:
        parser.error("make or measure, --folder and --peers are needed")
    else:
        for name in arguments.models:
            (make if arguments.step == "make" else measure)(name, arguments)


def make(name: str, arguments: argparse.Namespace) -> None:
    """Each engine's files; those that are there stay."""
    from decoder_llama_cpp import quantize, write_float_gguf
    from text_engines.llama_cpp_engine import load_backends

    load_backends()
    folder = arguments.folder / name
    folder.mkdir(parents=True, exist_ok=True)
    write_ours(name, folder)
    wide = folder / "F32.gguf"
    if not wide.exists():
        write_float_gguf(name, wide)
    for kind in GGUF_TYPES[1:]:
        if not (folder / f"{kind}.gguf").exists():
            quantize(wide, folder / f"{kind}.gguf", kind)
        beside = folder / f"openvino-{kind}" / "model.gguf"  # the reader writes its graph beside the file
        beside.parent.mkdir(exist_ok=True)
        beside.unlink(missing_ok=True)
        os.link(folder / f"{kind}.gguf", beside)
    for width in ENGINES["onnxruntime-genai"].files:
        target = folder / f"genai-{width}"
        if not (target / "genai_config.json").exists():
            builder = [arguments.peers, "-m", "onnxruntime_genai.models.builder", "-e", "cpu", "-p", width]
            subprocess.run([*builder, "-i", parts_of(name), "-o", target], check=True, stdout=subprocess.DEVNULL)


def parts_of(name: str) -> Path:
    from decoder_real_text import parts_folder

    return parts_folder() / name


def write_ours(name: str, folder: Path) -> None:
    """The decoder at each width, rounded over the package's texts."""
    from types import SimpleNamespace

    import torch
    from decoder_models import ENTRY_NAME, write
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from laco_export.exporter.decoder import prompts_of

    missing = [width for width in OURS if not (folder / width / ENTRY_NAME).exists()]
    if missing:
        model = AutoModelForCausalLM.from_pretrained(parts_of(name), dtype=torch.float32).eval()
        tokenizer = AutoTokenizer.from_pretrained(parts_of(name))
        prompts = prompts_of(SimpleNamespace(tokenizer=tokenizer), [], -1, [])
        for width in missing:
            write(model, folder / width, width, prompts)


def measure(name: str, arguments: argparse.Namespace) -> None:
    """Each width's engines in turn; the results of the models and widths that are not asked for stay."""
    from decoder_real_text import parts_folder, prose_windows
    from measured_on import measured_on
    from transformers import AutoTokenizer

    from laco_export.atomic import write_json

    tokenizer = AutoTokenizer.from_pretrained(parts_of(name))
    windows = [
        [int(token) for token in each.ids] for each in prose_windows(parts_folder(), tokenizer, arguments.windows)
    ]
    document = json.loads(arguments.output.read_text()) if arguments.output.exists() else {"models": {}}
    document |= measured_on("onnxruntime", "optimum-onnx", "transformers", "torch", "llama-cpp-python")
    document |= {"peers": versions_of(arguments.peers), "threads": 1, "prompt": PROMPT, "new_tokens": NEW_TOKENS}
    rows = document["models"].setdefault(name, {})
    for width in arguments.widths:
        rows[width] = measure_width(arguments.folder / name, width, windows, arguments.peers)
        write_json(arguments.output, document)
    for of_width in rows.values():
        for row in of_width.values():
            row["leading_tokens_as_fp32"] = leading_tokens(row["answers"], rows["fp32"]["lean"]["answers"])
    write_json(arguments.output, document)
    if arguments.output == RESULTS:
        replace_rows(PAGE, RESULTS.name, table_of(document))
    print(table_of(document))


def versions_of(python: Path) -> dict[str, str]:
    names = ("onnxruntime-genai", "onnxruntime", "openvino-genai")
    code = f"import importlib.metadata as m, json; print(json.dumps({{n: m.version(n) for n in {names}}}))"
    return json.loads(subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout)


def measure_width(folder: Path, width: str, windows: list[list[int]], peers: Path) -> dict[str, dict]:
    """A row an engine."""
    workers = {
        name: Worker(name, folder / engine.files[width], peers if engine.is_peer else Path(sys.executable))
        for name, engine in ENGINES.items()
        if width in engine.files
    }
    scores = {name: worker.ask(score=windows) for name, worker in workers.items()}
    for worker in workers.values():
        worker.ask(generate=windows[0][:PROMPT], count=4)  # warms up
    rounds: dict[str, list[dict]] = {name: [] for name in workers}
    for number, window in enumerate(windows):
        names = list(workers)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            rounds[name].append(workers[name].ask(generate=window[:PROMPT], count=NEW_TOKENS))
        print(f"{folder.name} {width}: {number + 1} of {len(windows)} rounds", file=sys.stderr, flush=True)
    tokens = sum(len(window) - 1 for window in windows)
    return {
        name: {
            **times_of(rounds[name], rounds[BASE]),
            "file_bytes": bytes_of(folder / ENGINES[name].files[width]),
            "perplexity": None if score is None else round(math.exp(score / tokens), 3),
            "answers": [row["answer"] for row in rounds[name]],
            "rounds": [{key: value for key, value in row.items() if key != "answer"} for row in rounds[name]],
        }
        for name, score in scores.items()
    }


def times_of(rounds: list[dict], base: list[dict]) -> dict[str, float]:
    """Medians, and the base's CPU time over them: above 1 is faster than the base."""
    medians = {key: round(statistics.median(row[key] for row in rounds), 2) for key in rounds[0] if key != "answer"}
    ratios = {
        f"{part}_speed_over_base": round(
            statistics.median(other[f"{part}_cpu_ms"] / row[f"{part}_cpu_ms"] for row, other in zip(rounds, base)), 3
        )
        for part in ("prefill", "token")
    }
    return {**medians, **ratios}


def bytes_of(path: Path) -> int:
    """Of a GGUF file, or of graph and weights in a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(each.stat().st_size for each in path.rglob("model.onnx*"))


def leading_tokens(answers: list[list[int]], references: list[list[int]]) -> float:
    """The mean number of tokens before the first that is another."""
    counts = []
    for answer, reference in zip(answers, references, strict=True):
        parted = [number for number, (one, other) in enumerate(zip(answer, reference)) if one != other]
        counts.append(parted[0] if parted else len(reference))
    return round(statistics.mean(counts), 1)


class Worker:
    """An engine in a process of its own."""

    def __init__(self, engine: str, path: Path, python: Path):
        command = [python, __file__, "--worker", engine, path]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)

    def ask(self, **request):
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(request), file=self._process.stdin, flush=True)
            for line in self._process.stdout:  # packages print of their own
                if line.startswith("answer: "):
                    return json.loads(line.removeprefix("answer: "))
        sys.exit(f"{self._process.args[-2]} ended with {self._process.wait()}")

    def __del__(self):
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()


def work(name: str, path: str) -> None:
    """Answer the requests on stdin, a line each."""
    engine = ENGINES[name]
    opened = getattr(importlib.import_module(f"text_engines.{engine.module}"), engine.kind)(Path(path))
    for line in sys.stdin:
        request = json.loads(line)
        if "score" in request:
            sums = [opened.negative_log_likelihood(ids) for ids in request["score"]]
            reply = None if None in sums else sum(sums)
        else:
            reply = timed(opened, request["generate"], request["count"])
        print(f"answer: {json.dumps(reply)}", flush=True)


def timed(engine, ids: list[int], count: int) -> dict:
    """An answer, and milliseconds of the prompt's reading and of each token after the first."""
    wall, cpu = [time.perf_counter()], [time.process_time()]

    def note() -> None:
        wall.append(time.perf_counter())
        cpu.append(time.process_time())

    answer = engine.generate(ids, count, note)
    assert len(wall) == count + 1 == len(answer) + 1, (len(wall), count, len(answer))
    return {
        "answer": [int(token) for token in answer],
        "prefill_ms": 1000 * (wall[1] - wall[0]),
        "prefill_cpu_ms": 1000 * (cpu[1] - cpu[0]),
        "token_ms": 1000 * (wall[-1] - wall[1]) / (count - 1),
        "token_cpu_ms": 1000 * (cpu[-1] - cpu[1]) / (count - 1),
    }


def table_of(document: dict) -> str:
    """A line an engine and width, as Markdown."""
    lines = [
        "| | engine | MB | perplexity | tokens as FP32's, of 64 | prefill, ms | × | a token, ms | × |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for model, widths in document["models"].items():
        for width, engines in widths.items():
            for name, row in engines.items():
                perplexity = "" if row["perplexity"] is None else f"{row['perplexity']:.2f}"
                lines.append(
                    f"| {model} {width} | {name} | {row['file_bytes'] / 1e6:.0f} | {perplexity} "
                    f"| {row['leading_tokens_as_fp32']:.0f} | {row['prefill_cpu_ms']:.0f} "
                    f"| {row['prefill_speed_over_base']:.2f} | {row['token_cpu_ms']:.1f} "
                    f"| {row['token_speed_over_base']:.2f} |"
                )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
