"""A governor under a load that rises and falls, beside each depth by itself.

    laco-export --model CKPT --at 1 1/2 1/4 --target ort-cpu --output DIR/bundle
    python benchmarks/governor.py --bundle DIR/bundle [--threads 1] [--answers 12]

What an answer takes at each depth is measured first: answers about pictures that are new, their parts in CPU time, so
that a busy machine measures what an idle one would. Then a recorded trace of arrivals is replayed in the clock of those
times: one worker answers one request after another, each taking what one of the measured answers took, drawn by a seed.
The trace is in units of a whole answer at the most accurate depth, so that it asks the same of a slow machine as of a
fast one: it begins at a third of what that depth can answer, rises to --peak of it, and falls again. Every policy meets
the same requests: each depth fixed, and the governor, which is told what the server's is. A request meets its deadline
where its first token comes in time after its arrival. ``--record`` draws the trace anew.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np
from measured_on import measured_on
from PIL import Image

RESULTS = Path(__file__).resolve().parent / "results" / "governor.json"
QUESTION = "What is in the picture?"
CALM_LOAD = 1 / 3
"""Of what the most accurate depth can answer, at both ends of the trace."""
DEADLINE = 2.0
"""In units of a whole answer at the most accurate depth: a request that waits for one other meets it."""


@dataclass(frozen=True)
class AnswerTime:
    """The parts of an answer, milliseconds of CPU time."""

    encode_ms: float
    prefill_ms: float
    decode_ms: float

    @property
    def first_token_ms(self) -> float:
        return self.encode_ms + self.prefill_ms

    @property
    def total_ms(self) -> float:
        return self.first_token_ms + self.decode_ms


def recorded_trace(requests: int, peak: float, seed: int) -> list[float]:
    """Arrivals, in units of an answer: a Poisson process whose rate rises and falls as half a sine."""
    random, moments, now = np.random.default_rng(seed), [], 0.0
    for number in range(requests):
        rate = CALM_LOAD + (peak - CALM_LOAD) * np.sin(np.pi * number / requests)
        now += random.exponential(1 / rate)
        moments.append(round(float(now), 4))
    return moments


def answer_times(answerer, count: int, tokens: int, seed: int) -> list[AnswerTime]:
    """Of ``count`` answers about new pictures, behind one that warms up."""
    random, times = np.random.default_rng(seed), []
    for _ in range(count + 1):
        picture = Image.fromarray(random.integers(0, 256, (96, 96, 3), np.uint8)).resize((384, 384))
        prompt = answerer.prompter.prepare([picture], QUESTION)
        wall, cpu = time.perf_counter(), time.process_time()
        answer = answerer.generate(prompt, max_new_tokens=tokens)
        computed = (time.process_time() - cpu) / (time.perf_counter() - wall)  # of the wall time, one thread
        timings, rate = answer.timings, answer.timings.decode_tokens_per_s
        decode_ms = 1000 * (len(answer.token_ids) - 1) / rate if rate else 0.0
        times.append(AnswerTime(timings.encode_ms * computed, timings.prefill_ms * computed, decode_ms * computed))
    return times[1:]


def replay(arrivals: Sequence[float], times: dict[str, list[AnswerTime]], policy: str, governor, seed: int) -> dict:
    """The requests of a trace through one worker.

    Args:
        arrivals: milliseconds, rising.
        policy: a depth; else the governor chooses.
    """
    from laco_engines.governor import Moment

    random, free_at, waits, depths = np.random.default_rng(seed), 0.0, [], []
    held: list[tuple[float, float, str, AnswerTime]] = []  # start, end, depth, what it takes
    for arrival in arrivals:
        for _, _, depth, took in [answered for answered in held if answered[1] <= arrival]:
            governor.observe(depth, **asdict(took))
        held = [waiting for waiting in held if waiting[1] > arrival]
        running_ms = max(0.0, arrival - held[0][0]) if held else 0.0
        moment = Moment(arrival / 1000, tuple(depth for _, _, depth, _ in held), running_ms)
        depth = policy if policy in times else governor.choose(moment).depth
        took = times[depth][random.integers(len(times[depth]))]
        start = max(arrival, free_at)
        free_at = start + took.total_ms
        held.append((start, free_at, depth, took))
        waits.append(start + took.first_token_ms - arrival)
        depths.append(depth)
    return {"waits_ms": waits, "depths": depths}


def outcome(replayed: dict, deadline_ms: float) -> dict:
    waits, shares = np.array(replayed["waits_ms"]), Counter(replayed["depths"])
    return {
        "met": float((waits <= deadline_ms).mean()),
        "first_token_ms": {name: float(np.quantile(waits, q)) for name, q in (("p50", 0.5), ("p95", 0.95), ("max", 1))},
        "share_of_depths": {depth: count / len(waits) for depth, count in shares.items()},
        "changes": sum(a != b for a, b in zip(replayed["depths"], replayed["depths"][1:])),
    }


def measured_answers_of(bundle, arguments: argparse.Namespace) -> dict:
    """On what the answers were measured, and of what."""
    return {
        **measured_on("onnxruntime"),
        "bundle": {"encoder": bundle.manifest.encoder, "decoder": bundle.manifest.decoder.precision},
        "threads": arguments.threads,
        "new_tokens": arguments.new_tokens,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--answers", type=int, default=12, help="that are measured at each depth")
    parser.add_argument("--new-tokens", type=int, default=8)
    parser.add_argument("--replay", action="store_true", help="measure nothing: the answers that the results have")
    parser.add_argument("--record", action="store_true", help="draw the trace of arrivals anew")
    parser.add_argument("--requests", type=int, default=600, help="of a trace that is drawn")
    parser.add_argument(
        "--peak", type=float, nargs="+", default=[0.9, 1.1], help="of what the most accurate depth can answer"
    )
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    from laco_engines.answering import Answerer
    from laco_engines.governor import Governor, GovernorRules
    from laco_export.bundle import open_bundle

    bundle = open_bundle(arguments.bundle)
    earlier = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    ladder = Governor.of_manifest(bundle.manifest, GovernorRules(deadline_ms=1)).ladder
    if arguments.replay:
        times = {depth: [AnswerTime(**took) for took in earlier["measured_answers"][depth]] for depth in ladder}
    else:
        answerer = Answerer(bundle, text_runtime="lean", threads=arguments.threads)
        times = {
            depth: answer_times(answerer.at(depth), arguments.answers, arguments.new_tokens, seed)
            for seed, depth in enumerate(ladder)
        }
    traces = earlier.get("arrivals_in_answers")
    if traces is None or arguments.record:
        traces = {str(peak): recorded_trace(arguments.requests, peak, arguments.seed) for peak in arguments.peak}
    unit = float(np.median([took.total_ms for took in times[ladder[0]]]))
    deadline_ms, peaks = DEADLINE * unit, {}
    rules = {
        "--deadline": GovernorRules(deadline_ms=deadline_ms),
        "--deadline --waiting-per-step 1": GovernorRules(deadline_ms=deadline_ms, waiting_per_step=1),
    }
    for (peak, trace), policy in product(traces.items(), (*ladder, *rules)):
        governor = Governor.of_manifest(bundle.manifest, rules.get(policy, rules["--deadline"]))
        for depth in ladder:  # the server times each tower before the first request
            governor.observe(depth, encode_ms=float(np.median([took.encode_ms for took in times[depth]])))
        arrivals = [unit * moment for moment in trace]
        reached = outcome(replay(arrivals, times, policy, governor, arguments.seed), deadline_ms)
        peaks.setdefault(peak, {})[policy] = reached
        said = ", ".join(f"{depth} {share:.0%}" for depth, share in reached["share_of_depths"].items())
        print(f"peak {peak}, {policy}: {reached['met']:.1%} in time ({said})", flush=True)
    measured = ("device", "cpu", "versions", "bundle", "threads", "new_tokens")
    result = {
        **({name: earlier[name] for name in measured} if arguments.replay else measured_answers_of(bundle, arguments)),
        "deadline_ms": deadline_ms,
        "answers_ms": {depth: float(np.median([took.total_ms for took in taken])) for depth, taken in times.items()},
        "encodes_ms": {depth: float(np.median([took.encode_ms for took in taken])) for depth, taken in times.items()},
        "policies_by_peak": peaks,
        "measured_answers": {depth: [asdict(took) for took in taken] for depth, taken in times.items()},
        "arrivals_in_answers": traces,
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
