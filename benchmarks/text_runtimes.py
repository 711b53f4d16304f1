"""The lean text runtime beside Optimum's: the same tokens, a token's time, and what a process takes to its first one.

    python benchmarks/text_runtimes.py --bundle DIR [--prompts 200] [--tokens 8] [--rounds 7] [--starts 3]

- **tokens**: greedy answers to the bundle's golden questions, and to prompts of random tokens and lengths. Where two
  answers part, the lead of Optimum's token over its second is recorded.
- **speed**: prefills of 174 positions and decode steps behind them, in turn on one loaded pair. With one thread a
  step's CPU time is its work and says the same on a busy machine as on a free one; wall time stands beside it.
- **start**: ``laco-engine run`` on one picture in a process of its own, in turn: CPU time to the end of a one-token
  answer, peak memory, and of each the part that the imports of the text runtime alone take.

``--rounds 0`` and ``--starts 0`` leave the last two out, and their figures as they are.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from measured_on import measured_on

RUNTIMES = ("optimum", "lean")
PROMPT, STEPS = 174, 32
RESULTS = Path(__file__).resolve().parent / "results" / "text_runtimes.json"
_IMPORTS = {
    "optimum": "import laco_engines.answering, laco_engines.generation.optimum_runtime",
    "lean": "import laco_engines.answering, laco_engines.generation.lean_runtime, onnxruntime",
}
_MEASURED = "\nfrom laco_export.machine import peak_memory\nprint(peak_memory())"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    from laco_export.bundle import open_bundle

    bundle = open_bundle(arguments.bundle)
    row = {"threads": arguments.threads, "precision": bundle.manifest.decoder.precision}
    if arguments.starts:
        row["start"] = starts(arguments.bundle, arguments.starts, arguments.threads)
    pair = loaded(bundle, arguments.threads)
    if arguments.rounds:
        row["speed"] = speed(pair, arguments.rounds)
    row["tokens"] = {
        "golden": compare(pair, golden_prompts(pair["lean"]), 32),
        "random": compare(pair, random_prompts(pair["lean"], arguments.prompts), arguments.tokens),
    }
    libraries = ("onnxruntime", "optimum", "optimum-onnx", "transformers", "torch", "numpy")
    row = {**measured_on(*libraries), **row}
    document = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
    document.setdefault(arguments.bundle.resolve().name, {}).update(row)
    arguments.output.write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps(row, indent=1))


def loaded(bundle, threads: int) -> dict:
    from laco_engines.answering import Answerer

    return {name: Answerer(bundle, text_runtime=name, threads=threads) for name in RUNTIMES}


def golden_prompts(answerer) -> list:
    """``(ids, embeds)`` of each golden question, its pictures encoded."""
    from laco_export.golden import read_golden
    from laco_export.golden_answers import read_golden_answers

    pictures = read_golden(answerer.bundle)
    prompts = []
    for golden in read_golden_answers(answerer.bundle, len(pictures.names)).answers:
        shown = golden.question.shown(pictures.pictures)
        prompt = answerer.prompter.prepare(shown, golden.question.text)
        prompts.append((prompt.input_ids, answerer.generator.embeds(prompt, answerer.encoder.encode(prompt.visuals))))
    return prompts


def random_prompts(answerer, count: int) -> list:
    """``(ids, embeds)``: 4 to 64 random tokens."""
    random = np.random.default_rng(0)
    drawn = [random.integers(0, answerer.prompter.decoder.vocab_size, random.integers(4, 65)) for _ in range(count)]
    return [(ids, answerer.text.embed(ids)) for ids in drawn]


def compare(pair: dict, prompts: list, new_tokens: int) -> dict:
    """How many answers have the same tokens, and where the others part."""
    from laco_engines.generation.logits_processors import BestTwo

    equal, parted, compared = 0, [], 0
    for number, (ids, embeds) in enumerate(prompts):
        best = BestTwo()
        theirs = generate(pair["optimum"], ids, embeds, new_tokens, [best])
        ours = generate(pair["lean"], ids, embeds, new_tokens)
        compared += len(theirs)
        if ours == theirs:
            equal += 1
            continue
        at = next((i for i, pair_of in enumerate(zip(ours, theirs, strict=False)) if pair_of[0] != pair_of[1]), -1)
        (_, first), (_, second) = best.steps[at]
        parted.append({"prompt": number, "token": at, "lead": first - second})
    return {"prompts": len(prompts), "equal": equal, "tokens": compared, "parted": parted}


def generate(answerer, ids: np.ndarray, embeds: np.ndarray, new_tokens: int, processors=()) -> list[int]:
    from laco_engines.generation.options import GenerationOptions
    from laco_engines.generation.streaming import RowText
    from laco_engines.generation.text_runtime import EmbeddedPrompt

    end_tokens = answerer.prompter.decoder.eos_token_ids
    row = RowText(answerer.prompter.tokenizer, end_tokens=end_tokens, limit=new_tokens)
    answerer.text.generate([EmbeddedPrompt(ids, embeds)], [row], GenerationOptions(), processors=processors)
    return row.token_ids


class _Clock:
    """Notes CPU and wall time at each token: its calls are a logits processor's."""

    def __init__(self):
        self.times = [(time.process_time(), time.perf_counter())]

    def __call__(self, answers, logits):
        self.times.append((time.process_time(), time.perf_counter()))
        forced = np.full_like(logits, -np.inf)  # no end token ends it
        forced[0, 5] = 0.0
        return forced


def speed(pair: dict, rounds: int) -> dict:
    """Medians of prefill and of a step, and of lean's time over Optimum's in the same round."""
    ids = np.random.default_rng(1).integers(0, pair["lean"].prompter.decoder.vocab_size, PROMPT)
    embeds = pair["lean"].text.embed(ids)
    measured: dict[str, list[dict]] = {name: [] for name in RUNTIMES}
    for number in range(rounds + 1):
        for name in RUNTIMES if number % 2 else RUNTIMES[::-1]:
            clock = _Clock()
            generate(pair[name], ids, embeds, STEPS, [clock])
            if number:  # the first round warms up
                measured[name].append(_times(clock.times))
    ratios = {
        key: statistics.median(lean[key] / optimum[key] for lean, optimum in zip(measured["lean"], measured["optimum"]))
        for key in measured["lean"][0]
    }
    medians = {
        name: {key: statistics.median(row[key] for row in rows) for key in rows[0]} for name, rows in measured.items()
    }
    return {"prompt": PROMPT, "steps": STEPS, **medians, "lean_over_optimum": ratios, "rounds": measured}


def _times(times: list[tuple[float, float]]) -> dict:
    return {
        "prefill_cpu_ms": 1000 * (times[1][0] - times[0][0]),
        "prefill_wall_ms": 1000 * (times[1][1] - times[0][1]),
        "step_cpu_ms": 1000 * (times[-1][0] - times[1][0]) / (len(times) - 2),
        "step_wall_ms": 1000 * (times[-1][1] - times[1][1]) / (len(times) - 2),
    }


def starts(bundle: Path, count: int, threads: int) -> dict:
    """CPU seconds and peak MiB of a process that imports, and of one that answers with one token."""
    from PIL import Image

    measured: dict[str, list[dict]] = {name: [] for name in RUNTIMES}
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "picture.png"
        pixels = np.random.default_rng(0).integers(0, 256, (336, 336, 3), np.uint8)
        Image.fromarray(pixels).save(picture)
        question = ["--image", picture, "--question", "What is this?", "--max-new-tokens", 1, "--threads", threads]
        for _ in range(count):
            for name in RUNTIMES:
                imported = _process([sys.executable, "-c", _IMPORTS[name] + _MEASURED])
                answered = _process(
                    [
                        sys.executable,
                        "-m",
                        "laco_engines.cli",
                        "run",
                        bundle,
                        *question,
                        "--text-runtime",
                        name,
                        "--json",
                    ]
                )
                measured[name].append(
                    {
                        "import_cpu_s": imported["cpu_s"],
                        "import_mib": int(imported["out"]) / 2**20,
                        "answer_cpu_s": answered["cpu_s"],
                        "answer_mib": json.loads(answered["out"])["peak_memory_bytes"] / 2**20,
                    }
                )
    medians = {
        name: {key: statistics.median(row[key] for row in rows) for key in rows[0]} for name, rows in measured.items()
    }
    return {**medians, "runs": measured}


def _process(command: list) -> dict:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = sum(getattr(after, field) - getattr(before, field) for field in ("ru_utime", "ru_stime"))
    return {"cpu_s": cpu, "out": done.stdout}


if __name__ == "__main__":
    main()
