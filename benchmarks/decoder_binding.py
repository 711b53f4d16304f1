"""What binding the KV cache to preallocated buffers gains over a session's own inputs and outputs, by context.

    python benchmarks/decoder_models.py --folder DIR --precisions int4
    python benchmarks/decoder_binding.py --folder DIR [--rounds 10] [--threads 1]

Qwen2.5-0.5B's shape. Unbound, a step takes the cache as inputs and ONNX Runtime hands out one that is a position
longer, which is what Optimum does on a CPU; bound, past and present are one buffer that the step appends to. Both
continue the same cache of 174 and of 2,048 positions by the same 16 tokens, in turn in one process on one session. With
one thread nothing waits for another, so that a step's CPU time is its work and says the same on a busy machine as on a
free one; wall time stands beside it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from decoder_models import PROMPT, machine, open_decoder_at
from decoder_speed import run_without_binding

RESULTS = Path(__file__).resolve().parent / "results" / "decoder_binding.json"
CONTEXTS = (PROMPT, 2048)
TOKENS = 16
CHUNK = 256  # positions of a prefill's step: the cache's content is made once, with little memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--precision", default="int4")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    decoder = open_decoder_at(arguments.folder / arguments.precision, arguments.threads)
    ids = torch.randint(0, 150_000, (1, max(CONTEXTS) + TOKENS), generator=torch.Generator().manual_seed(0))
    rows: dict[int, dict[str, list[dict]]] = {context: {"bound": [], "unbound": []} for context in CONTEXTS}
    with torch.inference_mode():
        caches = {context: read(decoder, ids[:, :context]) for context in CONTEXTS}
        for number in range(arguments.rounds + 1):
            for context, cache in caches.items():
                new = ids[:, context : context + TOKENS]
                for name, form in (("bound", bound), ("unbound", unbound)):
                    row, logits = form(decoder, cache, context, new)
                    if name == "bound":
                        expected = logits
                    assert torch.allclose(logits, expected, atol=1e-3), "the two do not compute the same"
                    if number:  # the first round warms up
                        rows[context][name].append(row)
    contexts = {str(context): {name: medians(of) for name, of in forms.items()} for context, forms in rows.items()}
    document = machine() | {
        "precision": arguments.precision,
        "threads": arguments.threads,
        "tokens": TOKENS,
        "rounds": arguments.rounds,
        "contexts": contexts,
        "cpu_of_unbound_over_bound": {
            context: round(forms["unbound"]["cpu_ms_a_token"] / forms["bound"]["cpu_ms_a_token"], 3)
            for context, forms in contexts.items()
        },
        "rounds_measured": rows,
    }
    arguments.output.write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps({key: document[key] for key in ("contexts", "cpu_of_unbound_over_bound")}, indent=1))


def read(decoder, ids: torch.Tensor):
    """The cache of a prompt ``[1, T]``, with room for the tokens that follow."""
    cache = decoder.new_cache(ids.shape[1] + TOKENS)
    for chunk in ids.split(CHUNK, dim=1):
        decoder(input_ids=chunk, past_key_values=cache, logits_to_keep=1)
    return cache


def bound(decoder, cache, context: int, new: torch.Tensor) -> tuple[dict, torch.Tensor]:
    """Steps as the decoder does them."""
    return steps(decoder, cache, context, new)


def unbound(decoder, cache, context: int, new: torch.Tensor) -> tuple[dict, torch.Tensor]:
    """The same steps by ``session.run``, each on what the one before handed out."""
    cache.present = [buffer[:, :, :context].contiguous().numpy() for buffer in cache.buffers]
    run_without_binding(decoder)
    try:
        return steps(decoder, cache, context, new)
    finally:
        del decoder._run, cache.present


def steps(decoder, cache, context: int, new: torch.Tensor) -> tuple[dict, torch.Tensor]:
    cache.crop(context)
    watch = Watch()
    for token in new.split(1, dim=1):
        logits = decoder(input_ids=token, past_key_values=cache, logits_to_keep=1).logits
    return watch.row(), logits


class Watch:
    def __init__(self):
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def row(self) -> dict:
        wall, cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu
        return {
            "cpu_ms_a_token": 1000 * cpu / TOKENS,
            "tokens_per_s": TOKENS / wall,
            "cpu_per_wall": cpu / wall,
        }


def medians(rows: list[dict]) -> dict:
    return {key: round(statistics.median(row[key] for row in rows), 3) for key in rows[0]}


if __name__ == "__main__":
    main()
