"""Prefill and decode of the language model beside PyTorch and llama.cpp, interleaved (Qwen2.5-0.5B's shape).

    python benchmarks/decoder_models.py --folder DIR [--gguf LLAMA.CPP]
    python benchmarks/decoder_speed.py --folder DIR [--llama-bench FILE] [--rounds 5] [--only int4 pytorch]

Each runtime has a process of its own that keeps its model loaded. A round lets one after the other read 174
embeddings and generate 65 tokens through ``generate``: prefill is the time to the first token, decode the 64 after it.
llama.cpp is timed by its own ``llama-bench``, with the 64 tokens after 174 as well. Figures are medians over the
rounds; CPU seconds per second tell whether the machine was free (2 threads: just below 2).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

from decoder_models import PROMPT, machine

RESULTS = Path(__file__).resolve().parent / "results" / "decoder_speed.json"
PRECISIONS = ("fp32", "int8", "int4")
NEW_TOKENS, THREADS = 64, 2
PYTORCH = "pytorch"
UNBOUND, MAPPED = " unbound", " mapped"
"""After a decoder's name: run without IO binding, and read FP32 weights where their file is mapped."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--llama-bench", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=[PYTORCH, *PRECISIONS], metavar="RUNTIME")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments.folder, arguments.worker)
        return
    rows = measure(arguments)
    summary = {name: summarise(row) for name, row in rows.items()}
    document = machine() | {
        "prompt_tokens": PROMPT,
        "new_tokens": NEW_TOKENS,
        "threads": THREADS,
        "rounds": arguments.rounds,
        "runtimes": summary,
        "over_pytorch": ratios(summary, PYTORCH),
        "over_llama_cpp": {name: ratios(summary, f"llama.cpp {name}").get(name) for name in PRECISIONS},
        "rounds_measured": rows,
    }
    arguments.output.write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps({key: document[key] for key in ("runtimes", "over_pytorch", "over_llama_cpp")}, indent=1))


def measure(arguments: argparse.Namespace) -> dict[str, list[dict]]:
    workers = {name: start(arguments.folder, name) for name in arguments.only}
    rows: dict[str, list[dict]] = {}
    for worker in workers.values():
        worker.stdout.readline()  # loaded
    for number in range(arguments.rounds + 1):
        for name, worker in workers.items():
            print(file=worker.stdin, flush=True)
            record(rows, name, number, json.loads(worker.stdout.readline()))
            if arguments.llama_bench and name in PRECISIONS:
                peer = llama(arguments.llama_bench, arguments.folder / f"{name}.gguf")
                record(rows, f"llama.cpp {name}", number, peer)
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()
    return rows


def record(rows: dict[str, list[dict]], name: str, number: int, row: dict) -> None:
    if number:  # the first round warms up
        rows.setdefault(name, []).append(row)


def start(folder: Path, name: str) -> subprocess.Popen:
    command = [sys.executable, __file__, "--folder", str(folder), "--worker", name]
    environment = os.environ | {"OMP_NUM_THREADS": str(THREADS)}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def work(folder: Path, name: str) -> None:
    """One round for each line on stdin."""
    import torch

    torch.set_num_threads(THREADS)
    model, embeds = load(folder, name)
    print("loaded", flush=True)
    for _ in sys.stdin:
        print(json.dumps(generate(model, embeds)), flush=True)


def load(folder: Path, name: str):
    """A model with transformers' ``generate``, and embeddings ``[1, PROMPT, D]`` for it."""
    import torch
    from decoder_models import open_decoder_at

    if name == PYTORCH:
        from transformers import Qwen2ForCausalLM

        model = Qwen2ForCausalLM.from_pretrained(folder / PYTORCH, dtype=torch.float32).eval()
        embed = model.get_input_embeddings()
    else:
        if name.endswith(MAPPED):
            leave_weights_mapped()
        model = open_decoder_at(folder / name.removesuffix(UNBOUND).removesuffix(MAPPED), THREADS)
        embed = model.embed
        if name.endswith(UNBOUND):
            run_without_binding(model)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 150_000, (1, PROMPT), generator=generator)
    with torch.inference_mode():
        return model, embed(ids)


def leave_weights_mapped() -> None:
    """Let no session of this process pack its weights."""
    import onnxruntime

    class Options(onnxruntime.SessionOptions):
        def __init__(self):
            super().__init__()
            self.add_session_config_entry("session.disable_prepacking", "1")

    onnxruntime.SessionOptions = Options


def run_without_binding(decoder) -> None:
    """Let every step take the cache as an input and hand out a longer one, as a session does unasked."""
    import torch

    def run(embeds, cache, rows, lengths, positions):
        past = getattr(cache, "present", None) or [buffer[:, :, :0].numpy() for buffer in cache.buffers]
        outputs = decoder.session.run(
            ["logits", *decoder.key_value_output_names],
            {
                "inputs_embeds": embeds.numpy(),
                "seqlens_k": torch.tensor(lengths, dtype=torch.int32).numpy() - 1,
                "total_sequence_length": torch.tensor(max(lengths), dtype=torch.int32).numpy(),
                "logit_positions": positions[..., None].numpy(),
                **dict(zip(decoder.key_value_input_names, past, strict=True)),
            },
        )
        cache.present = outputs[1:]
        return torch.from_numpy(outputs[0])

    decoder._run = run


class Times:
    """A streamer that notes when each token comes, and the CPU time used until then."""

    def __init__(self):
        self.wall, self.cpu = [time.perf_counter()], [time.process_time()]

    def put(self, tokens) -> None:
        if len(tokens.shape) == 1 and len(tokens):  # the prompt's (none here) are [1, 0]
            self.wall.append(time.perf_counter())
            self.cpu.append(time.process_time())

    def end(self) -> None:
        pass


def generate(model, embeds) -> dict:
    import torch
    from transformers import GenerationConfig

    config = GenerationConfig(max_new_tokens=NEW_TOKENS + 1, do_sample=False, pad_token_id=0)
    with torch.inference_mode():
        times = Times()
        model.generate(inputs_embeds=embeds, generation_config=config, streamer=times)
    prefill, decode = times.wall[1] - times.wall[0], times.wall[-1] - times.wall[1]
    assert len(times.wall) == NEW_TOKENS + 2, len(times.wall)
    return {
        "prefill_tokens_per_s": PROMPT / prefill,
        "decode_tokens_per_s": NEW_TOKENS / decode,
        "prefill_cpu_per_wall": (times.cpu[1] - times.cpu[0]) / prefill,
        "decode_cpu_per_wall": (times.cpu[-1] - times.cpu[1]) / decode,
    }


def llama(bench: Path, model: Path) -> dict:
    """One prefill, and one decode after a prompt of the same length; its CPU time is of the whole command."""
    common = [bench, "-m", model, "-t", str(THREADS), "-r", "1", "-o", "json"]
    figures = {}
    environment = os.environ | {"LD_LIBRARY_PATH": str(bench.parent)}
    for part, options in (
        ("prefill", ["-p", str(PROMPT), "-n", "0"]),
        ("decode", ["-p", "0", "-n", str(NEW_TOKENS), "-d", str(PROMPT)]),
    ):
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run([*common, *options], check=True, capture_output=True, text=True, env=environment)
        after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - start
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        figures[f"{part}_tokens_per_s"] = json.loads(done.stdout)[0]["avg_ts"]
        figures[f"{part}_cpu_per_wall"] = cpu / wall
    return figures


def summarise(rows: list[dict]) -> dict:
    return {key: round(statistics.median(row[key] for row in rows), 3) for key in rows[0]}


def ratios(summary: dict[str, dict], base: str) -> dict[str, dict]:
    """Speeds over those of ``base``."""
    if base not in summary:
        return {}
    return {
        name: {
            part: round(row[f"{part}_tokens_per_s"] / summary[base][f"{part}_tokens_per_s"], 3)
            for part in ("prefill", "decode")
        }
        for name, row in summary.items()
        if name != base
    }


if __name__ == "__main__":
    main()
