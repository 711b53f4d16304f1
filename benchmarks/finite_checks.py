"""What looking for inf and NaN costs: of a picture's features, and of a token's logits, over what computing them costs.

    python benchmarks/finite_checks.py BUNDLE [--rounds 20]

Encodes a picture and generates tokens on the CPU, and times the checks on arrays of the same shapes in turn with them:
medians of wall and of CPU time. The logits of one token in 16 are looked at, so that a token carries a sixteenth.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from measured_on import measured_on

from laco_engines.answering import Answerer
from laco_engines.comparison.golden_check import pixel_values
from laco_engines.generation.logits_processors import FiniteLogits
from laco_export.bundle import open_bundle
from laco_export.golden import read_golden

RESULTS = Path(__file__).resolve().parent / "results" / "finite_checks.json"
REPEATS = 100  # of a check, which takes microseconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    answerer = Answerer(open_bundle(arguments.bundle), text_runtime="optimum", threads=arguments.threads)
    pixels = pixel_values(answerer.bundle, read_golden(answerer.bundle).pictures[:1])
    features = answerer.vision.encode(pixels)
    decoder, cache = answerer.decoder, answerer.decoder.new_cache(1024)
    decoder(input_ids=torch.arange(1, 201)[None], past_key_values=cache, logits_to_keep=1)
    token = torch.tensor([[1]])
    logits = decoder(input_ids=token, past_key_values=cache).logits[:, -1].numpy(force=True)

    def look_at_logits() -> None:
        FiniteLogits()([], logits)  # a new one looks at its first token

    rows: dict[str, list[tuple[float, float]]] = {}
    for number in range(arguments.rounds + 1):
        for name, work, repeats in (
            ("encode", lambda: answerer.vision.encode(pixels), 1),
            ("features", lambda: np.isfinite(features).all(), REPEATS),
            ("token", lambda: decoder(input_ids=token, past_key_values=cache, logits_to_keep=1), 1),
            ("logits", look_at_logits, REPEATS),
        ):
            took = timed(work, repeats)
            if number:  # the first round warms up
                rows.setdefault(name, []).append(took)
    medians = {
        name: {"ms": statistics.median(w for w, _ in took), "cpu_ms": statistics.median(c for _, c in took)}
        for name, took in rows.items()
    }
    manifest = answerer.bundle.manifest
    document = {
        **measured_on("torch", "onnxruntime", "transformers"),
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "encoder": manifest.encoder["model_type"],
        "features": list(features.shape),
        "decoder": f"{manifest.decoder.model_type}, {manifest.decoder.precision}",
        "vocabulary": manifest.decoder.vocab_size,
        "medians": medians,
        "share_of_encoding": medians["features"]["cpu_ms"] / medians["encode"]["cpu_ms"],
        "share_of_a_token": medians["logits"]["cpu_ms"] / FiniteLogits.EVERY / medians["token"]["cpu_ms"],
        "measured": rows,
    }
    earlier = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
    key = f"{manifest.source['name']}, {document['decoder']}"
    arguments.output.write_text(json.dumps({**earlier, key: document}, indent=1) + "\n")
    print(json.dumps({**medians, **{name: document[name] for name in document if name.startswith("share")}}, indent=1))


def timed(work: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Milliseconds of wall and of CPU time that one ``work()`` takes."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        work()
    return 1000 * (time.perf_counter() - wall) / repeats, 1000 * (time.process_time() - cpu) / repeats


if __name__ == "__main__":
    main()
