"""A governor under a load that rises and falls, beside each depth by itself.

    laco-export --model CKPT --at all --llm int8 --target ort-cpu --output DIR/bundle
    python benchmarks/governor.py --bundle DIR/bundle [--threads 1]

Requests arrive at the moments of a recorded trace, one worker answers them one after another, and each shows a picture
that is new. The trace is in units of what a whole answer takes at the most accurate depth here, so that it asks the
same of a slow machine as of a fast one: it begins at a third of what that depth can answer, rises to --peak of it, and
falls again. Every policy meets the same requests: each depth fixed, and the governor with the deadline alone. A request
meets its deadline where its first token comes in time after its arrival. ``--record`` draws the trace anew.
"""

from __future__ import annotations

import argparse
import json
import queue
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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


def recorded_trace(requests: int, peak: float, seed: int) -> list[float]:
    """Arrivals, in units of an answer: a Poisson process whose rate rises and falls as half a sine."""
    random, moments, now = np.random.default_rng(seed), [], 0.0
    for number in range(requests):
        rate = CALM_LOAD + (peak - CALM_LOAD) * np.sin(np.pi * number / requests)
        now += random.exponential(1 / rate)
        moments.append(round(float(now), 4))
    return moments


@dataclass
class Request:
    """One request: when it arrived and what became of it, in seconds of this process's clock."""

    picture: Image.Image
    arrived: float
    depth: str = ""
    started: float = 0.0
    first_token: float = 0.0


class Worker:
    """Answers one request after another in a thread, as the server's does."""

    def __init__(self, answerer, tokens: int, observe: Callable):
        self._answerer, self._tokens, self._observe = answerer, tokens, observe
        self._queue: queue.Queue = queue.Queue()
        self._held: list[Request] = []
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def ahead(self, now: float) -> tuple[tuple[str, ...], float]:
        with self._lock:
            held = list(self._held)
        running_ms = 1000 * (now - held[0].started) if held and held[0].started else 0.0
        return tuple(request.depth for request in held), running_ms

    def submit(self, request: Request) -> None:
        with self._lock:
            self._held.append(request)
        self._queue.put(request)

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (request := self._queue.get()) is not None:
            request.started = time.monotonic()
            answerer = self._answerer.at(request.depth)
            answer = answerer.answer([request.picture], QUESTION, max_new_tokens=self._tokens)
            request.first_token = request.started + answer.timings.first_token_ms / 1000
            self._observe(request.depth, answer)
            with self._lock:
                self._held.remove(request)


def replay(answerer, pictures: Sequence[Image.Image], arrivals, tokens: int, choose: Callable, observe: Callable):
    """The requests of a trace, each given its depth by ``choose(now, ahead, running_ms)`` when it arrives."""
    worker, requests, begin = Worker(answerer, tokens, observe), [], time.monotonic()
    for picture, moment in zip(pictures, arrivals):
        time.sleep(max(0.0, begin + moment - time.monotonic()))
        now = time.monotonic()
        request = Request(picture, begin + moment)
        request.depth = choose(now, *worker.ahead(now))
        worker.submit(request)
        requests.append(request)
    worker.close()
    return requests


def outcome(requests: Sequence[Request], deadline_s: float) -> dict:
    waits = [request.first_token - request.arrived for request in requests]
    depths = Counter(request.depth for request in requests)
    return {
        "met": sum(wait <= deadline_s for wait in waits) / len(waits),
        "first_token_s": {name: float(np.quantile(waits, q)) for name, q in (("p50", 0.5), ("p95", 0.95), ("max", 1))},
        "share_of_depths": {depth: count / len(requests) for depth, count in depths.items()},
        "depths": [request.depth for request in requests],
        "waits_s": [round(wait, 4) for wait in waits],
    }


def service_seconds(answerer, pictures: Sequence[Image.Image], tokens: int) -> float:
    """A whole answer about a new picture, the median."""
    seconds = []
    for picture in pictures:
        start = time.perf_counter()
        answerer.answer([picture], QUESTION, max_new_tokens=tokens)
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds[1:]))


def new_pictures(count: int, seed: int) -> list[Image.Image]:
    random = np.random.default_rng(seed)
    return [Image.fromarray(random.integers(0, 256, (96, 96, 3), np.uint8)).resize((384, 384)) for _ in range(count)]


def measure(bundle: Path, arrivals: list[float], tokens: int, threads: int) -> dict:
    from laco_engines.answering import Answerer
    from laco_engines.governor import Governor, GovernorRules, Moment
    from laco_export.bundle import open_bundle

    opened = open_bundle(bundle)
    answerer = Answerer(opened, text_runtime="lean", threads=threads)
    ladder = Governor.of_manifest(opened.manifest, GovernorRules(deadline_ms=1)).ladder
    answers = {
        depth: service_seconds(answerer.at(depth), new_pictures(6, seed), tokens) for seed, depth in enumerate(ladder)
    }
    unit = answers[ladder[0]]
    moments, deadline_s = [unit * moment for moment in arrivals], DEADLINE * unit
    results = {}
    for number, policy in enumerate([*ladder, "governor"]):
        governor = Governor.of_manifest(opened.manifest, GovernorRules(deadline_ms=1000 * deadline_s))

        def choose(now, ahead, running_ms, policy=policy, governor=governor):
            if policy != "governor":
                return policy
            return governor.choose(Moment(now, ahead, running_ms)).depth

        def observe(depth, answer, governor=governor):
            timings, rate = answer.timings, answer.timings.decode_tokens_per_s
            decode_ms = 1000 * (len(answer.token_ids) - 1) / rate if rate else 0.0
            governor.observe(depth, encode_ms=timings.encode_ms, prefill_ms=timings.prefill_ms, decode_ms=decode_ms)

        answerer.forget()
        pictures = new_pictures(len(moments), 100 + number)
        results[policy] = outcome(replay(answerer, pictures, moments, tokens, choose, observe), deadline_s)
        said = ", ".join(f"{depth} {share:.0%}" for depth, share in results[policy]["share_of_depths"].items())
        print(f"{policy}: {results[policy]['met']:.1%} in time ({said})", flush=True)
    return {"answer_s": answers, "deadline_s": deadline_s, "ladder": ladder, "policies": results}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--new-tokens", type=int, default=8)
    parser.add_argument("--record", action="store_true", help="draw the trace of arrivals anew")
    parser.add_argument("--requests", type=int, default=120, help="of a trace that is drawn")
    parser.add_argument("--peak", type=float, default=1.15, help="of what the most accurate depth can answer")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    earlier = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    arrivals = earlier.get("arrivals_in_answers")
    if arrivals is None or arguments.record:
        arrivals = recorded_trace(arguments.requests, arguments.peak, arguments.seed)
    measured = measure(arguments.bundle, arrivals, arguments.new_tokens, arguments.threads)
    result = {
        **measured_on("onnxruntime"),
        "bundle": arguments.bundle.name,
        "threads": arguments.threads,
        "new_tokens": arguments.new_tokens,
        **measured,
        "arrivals_in_answers": arrivals,
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
