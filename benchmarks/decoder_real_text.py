"""What each precision of the decoder costs on real language models: perplexity, KL, bits and a step's time.

    make real-parts
    python benchmarks/decoder_real_text.py --folder DIR [--models smollm2 qwen2.5-coder] [--windows 7]

Each precision of each model is written and compared as ``laco-export --llm`` does, beside :data:`BEFORE`, INT4 as it
was: symmetric, blocks of 128, each weight to the nearest number. All read the same windows of prose (the Jargon File),
which nothing was rounded over. A step's time is CPU time of one thread, the median of steps in turn over
those of :data:`BEFORE` in the same rounds; steps are taken after 32 positions.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from measured_on import measured_on

from laco_export.chat_format import IM_END
from laco_export.decoder_steps import run_decoder
from laco_export.errors import ExportError
from laco_export.exporter.decoder import (
    DECODER_PRECISIONS,
    DecoderPrecision,
    export_decoder,
    prompts_of,
    verify_decoder,
)
from laco_export.exporter.decoder.prompts import DecoderPrompt, windows_of
from laco_export.exporter.decoder.proof import LOGITS_TOLERANCES
from laco_export.exporter.decoder.rounding_cost import divergence, given_logits, log_softmax
from laco_export.exporter.decoder.stepping import decoder_session
from laco_export.quiet import quiet_libraries

RESULTS = Path(__file__).resolve().parent / "results" / "decoder_real_text.json"
BEFORE = DecoderPrecision("int4 before", bits=4, head_bits=8)
STEPS_AFTER, ROUNDS = 32, 60  # positions, and steps of each


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=["smollm2", "qwen2.5-coder"])
    parser.add_argument("--precisions", nargs="+", default=["fp16", "int8", BEFORE.name, "int4"])
    parser.add_argument("--windows", type=int, default=7)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    parts = parts_folder()
    DECODER_PRECISIONS[BEFORE.name] = BEFORE
    LOGITS_TOLERANCES[BEFORE.name] = LOGITS_TOLERANCES["int4"]
    document = json.loads(arguments.output.read_text()) if arguments.output.is_file() else {}
    document |= measured_on("torch", "transformers", "onnxruntime", "optimum-onnx")
    for name in arguments.models:
        rows = measure(parts, name, arguments)
        document.setdefault("models", {}).setdefault(name, {}).update(rows)
        arguments.output.write_text(json.dumps(document, indent=1) + "\n")


def measure(parts: Path, name: str, arguments: argparse.Namespace) -> dict[str, dict]:
    """A row a precision."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(parts / name, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(parts / name)
    prompts = prompts_of(SimpleNamespace(tokenizer=tokenizer), [], -1, [])
    prose = prose_windows(parts, tokenizer, arguments.windows)
    embeds = [window.embeds(model.get_input_embeddings().weight) for window in prose]
    wanted = np.arange(len(embeds[0]) - 1)
    references = [log_softmax(given_logits(model, each, wanted)) for each in embeds]
    rows = {"fp32": scores(references, references, prose)}
    for precision in arguments.precisions:
        folder = arguments.folder / name / precision.replace(" ", "-")
        shutil.rmtree(folder, ignore_errors=True)
        start = time.perf_counter(), time.process_time()
        decoder = export_decoder(
            model,
            image_token_id=0,
            eos_token_ids=[tokenizer.convert_tokens_to_ids(IM_END)],
            output_folder=folder,
            precision=precision,
            prompts=None if precision == BEFORE.name else prompts,
        )
        seconds = time.perf_counter() - start[0], time.process_time() - start[1]
        session = decoder_session(folder / decoder.graph)
        logits = [log_softmax(run_decoder(session, each[None], None, wanted)[0]) for each in embeds]
        rows[precision] = {
            **scores(logits, references, prose),
            "bits_a_weight": (decoder.quantization or {}).get("bits_a_weight"),
            "decoder_bytes": sum(path.stat().st_size for path in (folder / "llm").iterdir()),
            "export_seconds": round(seconds[0], 1),
            "export_cpu_seconds": round(seconds[1], 1),
            "verdict": verdict(model, folder, decoder, prompts),
        }
        del session
        print(name, precision, json.dumps(rows[precision]), flush=True)
    times = step_times(arguments.folder / name, arguments.precisions, embeds[0])
    for precision, ratio in times.items():
        rows[precision]["step_over_int4_before"] = ratio
    print(name, json.dumps(times), flush=True)
    return rows


def parts_folder() -> Path:
    """Where ``make real-parts`` put the parts."""
    return Path(os.environ.get("LACO_REAL_PARTS", Path.home() / ".cache" / "laco-export" / "real-parts"))


def prose_windows(parts: Path, tokenizer, count: int) -> list[DecoderPrompt]:
    """Windows of prose that nothing is rounded over, behind the book's front matter."""
    return windows_of(tokenizer((parts / "prose" / "prose.txt").read_text()).input_ids)[16:][:count]


def verdict(model, folder: Path, decoder, prompts) -> dict | str:
    """What the exporter says of it: the accuracy that a bundle would carry, or why it is refused."""
    try:
        return verify_decoder(model, folder, decoder, prompts)
    except ExportError as error:
        return f"refused: {error.args[0].splitlines()[0]}: {error.given}"


def scores(logits: list[np.ndarray], references: list[np.ndarray], prose) -> dict[str, float]:
    kl, same, nll = [], [], []
    for actual, expected, window in zip(logits, references, prose):
        kl.append(divergence(expected, actual))
        same.append(expected.argmax(-1) == actual.argmax(-1))
        nll.append(-actual[np.arange(len(actual)), window.ids[1:]])
    return {
        "perplexity": round(math.exp(np.concatenate(nll).mean()), 3),
        "kl_mean": round(float(np.concatenate(kl).mean()), 5),
        "kl_p99": round(float(np.quantile(np.concatenate(kl), 0.99)), 4),
        "same_best_token": round(float(np.concatenate(same).mean()), 4),
    }


def step_times(folder: Path, precisions: list[str], embeds: np.ndarray) -> dict[str, float]:
    """CPU seconds of a step on one thread over those of :data:`BEFORE`: medians of rounds in turn."""
    if BEFORE.name not in precisions:
        return {}
    from laco_export.onnx_session import open_session

    sessions = {}
    for precision in precisions:
        session = open_session(folder / precision.replace(" ", "-") / "llm" / "model.onnx", threads=1)
        _, cache = run_decoder(session, embeds[None, :STEPS_AFTER], None, np.array([STEPS_AFTER - 1]))
        sessions[precision] = session, cache
    taken: dict[str, list[float]] = {precision: [] for precision in precisions}
    for _ in range(ROUNDS):
        for precision, (session, cache) in sessions.items():
            start = time.thread_time()
            run_decoder(session, embeds[None, STEPS_AFTER : STEPS_AFTER + 1], cache, np.array([0]))
            taken[precision].append(time.thread_time() - start)
    base = taken[BEFORE.name][5:]  # the first ones warm up
    return {
        precision: round(statistics.median(mine / other for mine, other in zip(times[5:], base)), 3)
        for precision, times in taken.items()
    }


if __name__ == "__main__":
    with quiet_libraries():
        main()
