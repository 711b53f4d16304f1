"""What prompt lookup gains where answers copy, costs where they do not, and changes.

    make real-parts
    laco-train init --encoder …/encoder/224 --llm …/smollm2 --at 1/2 --output CKPT
    laco-export --model CKPT --at 1/2 --fp32 --llm int4 --output DIR
    python benchmarks/prompt_lookup.py --bundle DIR --prose FOLDER [--rounds 5] [--tokens 96]

- **answers**: questions in chat form, with and without, in turn on one loaded model: tokens/s of the tokens after the
  first, by wall and by CPU time (medians of the ratios within a round), tokens a pass, whether the tokens are the same.
  Kinds: text to be repeated, JSON to be given back with one change, free prose, and a worst case in which a logits
  processor contradicts every draft. ``exact`` where the model allows it, else ``close``.
- **rounding**: the same text, read by single steps and by passes of four: KL in nats a token, and how many best tokens
  differ. This is what ``close`` may change.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
from measured_on import measured_on

RESULTS = Path(__file__).resolve().parent / "results" / "prompt_lookup.json"
RECORDS = (
    '{"name": "Anna Berg", "city": "Oslo", "age": 41, "tags": ["ski", "tea"], "active": true}',
    '{"id": 7731, "title": "Blue lamp", "price": 24.5, "stock": 12, "colours": ["blue", "white"], "size": "M"}',
    '{"train": "IC 512", "from": "Bern", "to": "Basel", "leaves": "08:04", "arrives": "09:01", "platform": 6}',
)
FREE = ("Write a short story about a lighthouse.", "Why is the sky blue?", "How do I bake bread?")
WINDOW, PASS = 192, 4  # tokens of a window whose numbers are compared, and of a pass over it


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--prose", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--windows", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    from laco_engines.answering import Answerer
    from laco_engines.generation.lean_runtime import MAX_ROUNDING
    from laco_export.bundle import open_bundle

    answerer = Answerer(
        open_bundle(arguments.bundle), text_runtime="lean", threads=arguments.threads, prompt_lookup="close"
    )
    costs = answerer.text.pass_costs
    mode = "exact" if costs.rounding <= MAX_ROUNDING else "close"
    prose = passages(arguments.prose)
    asked = {
        "repeat": [f"Repeat the following text word for word.\n\n{text}" for text in prose[:3]],
        "json": [f'Give back this JSON with one more field, "checked": true.\n\n{record}' for record in RECORDS],
        "free": list(FREE),
    }
    row = {
        **measured_on("onnxruntime", "numpy"),
        "precision": answerer.bundle.manifest.decoder.precision,
        "threads": arguments.threads,
        "mode": mode,
        "costs": costs.over_step,
        "largest_difference_of_logits": costs.rounding,
        "rounding": rounding(answerer, prose, arguments.windows),
        "answers": {
            kind: compare(answerer, questions, mode, arguments.tokens, arguments.rounds)
            for kind, questions in asked.items()
        },
    }
    row["answers"]["contradicted"] = compare(
        answerer, asked["repeat"][:1], mode, arguments.tokens, arguments.rounds, contradicted=True
    )
    document = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
    document[arguments.bundle.resolve().name] = row
    arguments.output.write_text(json.dumps(document, indent=1) + "\n")
    print(json.dumps({**row, "answers": {kind: summary(rows) for kind, rows in row["answers"].items()}}, indent=1))


def passages(folder: Path) -> list[str]:
    """Paragraphs of prose, of 250 to 450 characters."""
    text = "\n".join(path.read_text(errors="replace") for path in sorted(folder.rglob("*.txt")))
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
    fitting = [paragraph for paragraph in paragraphs if 250 < len(paragraph) < 450 and paragraph.isascii()]
    return [fitting[index] for index in np.random.default_rng(0).permutation(len(fitting))]


class _Clock:
    """Notes CPU and wall time at each token: its calls are a logits processor's."""

    def __init__(self):
        self.times: list[tuple[float, float]] = []

    def __call__(self, answers, logits):
        self.times.append((time.process_time(), time.perf_counter()))
        return logits


class _Contradict:
    """Has another token said than the draft would be."""

    def __init__(self, prompt: list[int]):
        from laco_engines.generation.prompt_lookup import NgramIndex

        self._index, self._heard = NgramIndex(prompt), 0
        self._alphabet = sorted(set(prompt))[:4]

    def __call__(self, answers, logits):
        for token in answers[0][self._heard :]:
            self._index.add(token)
        self._heard = len(answers[0])
        drafted = self._index.draft(1).token_ids
        said = next(token for token in self._alphabet if token not in drafted)
        forced = np.full_like(logits, -np.inf)
        forced[0, said] = 0
        return forced


def compare(
    answerer, questions: list[str], mode: str, new_tokens: int, rounds: int, *, contradicted: bool = False
) -> list[dict]:
    """A row a question."""
    rows = []
    for question in questions:
        prompt = answerer.prompter.prepare([], question)
        measured: dict[str, list[dict]] = {"plain": [], "lookup": []}
        for number in range(rounds + 1):
            for name in ("plain", "lookup") if number % 2 else ("lookup", "plain"):
                processors = [_Contradict(prompt.input_ids.tolist())] if contradicted else []
                run = generate(answerer, prompt, None if name == "plain" else mode, new_tokens, processors)
                if number:  # the first round warms up
                    measured[name].append(run)
        plain, lookup = measured["plain"][0], measured["lookup"][0]
        parted = next((i for i, (a, b) in enumerate(zip(plain["tokens"], lookup["tokens"])) if a != b), None)
        for run in measured["plain"] + measured["lookup"]:
            del run["tokens"]
        rows.append(
            {
                "question": question,
                "tokens": lookup["count"],
                "passes": lookup["passes"],
                "same_tokens": parted is None and plain["count"] == lookup["count"],
                "parted_at": parted,
                "speed": ratio(measured, "wall_s"),
                "speed_by_cpu": ratio(measured, "cpu_s"),
                "rounds": measured,
            }
        )
    return rows


def generate(answerer, prompt, mode: str | None, new_tokens: int, processors: list) -> dict:
    from laco_engines.generation.options import GenerationOptions
    from laco_engines.generation.streaming import RowText
    from laco_engines.generation.text_runtime import EmbeddedPrompt

    row = RowText(answerer.prompter.tokenizer, end_tokens=answerer.prompter.decoder.eos_token_ids, limit=new_tokens)
    clock = _Clock()
    embedded = EmbeddedPrompt(prompt.input_ids, answerer.generator.embeds(prompt, []))
    options = GenerationOptions(prompt_lookup=mode, max_new_tokens=new_tokens)
    answerer.text.generate([embedded], [row], options, processors=[*processors, clock])
    steps = max(1, len(row.token_ids) - 1)
    cpu, wall = (clock.times[-1][index] - clock.times[0][index] for index in (0, 1))
    return {
        "tokens": row.token_ids,
        "count": len(row.token_ids),
        "passes": row.passes if mode else steps,
        "cpu_s": cpu / steps,
        "wall_s": wall / steps,
    }


def ratio(measured: dict[str, list[dict]], key: str) -> float:
    """Speed with lookup over speed without: seconds a token, within a round."""
    pairs = zip(measured["plain"], measured["lookup"], strict=True)
    return statistics.median(plain[key] / lookup[key] for plain, lookup in pairs)


def summary(rows: list[dict]) -> dict:
    return {
        "speed": statistics.median(row["speed"] for row in rows),
        "speed_by_cpu": statistics.median(row["speed_by_cpu"] for row in rows),
        "worst_by_cpu": min(row["speed_by_cpu"] for row in rows),
        "tokens_a_pass": sum(row["tokens"] - 1 for row in rows) / sum(row["passes"] for row in rows),
        "same_tokens": f"{sum(row['same_tokens'] for row in rows)} of {len(rows)}",
    }


def rounding(answerer, prose: list[str], windows: int) -> dict:
    """What reading by passes of :data:`PASS` changes beside single steps."""
    decoder = answerer.text.decoder
    ids = answerer.prompter.tokenizer.encode("\n\n".join(prose[:40]), add_special_tokens=False).ids
    divergences, others = [], 0
    for first in range(0, windows * WINDOW, WINDOW):
        tokens = ids[first : first + WINDOW]
        stepped, passed = decoder.new_cache(WINDOW), decoder.new_cache(WINDOW)
        for begin in range(0, WINDOW, PASS):
            chunk = tokens[begin : begin + PASS]
            read = log_softmax(decoder.read(chunk, passed))
            for expected, by_pass in zip([log_softmax(decoder.step([t], stepped, [True])[0]) for t in chunk], read):
                divergences.append(float((np.exp(expected) * (expected - by_pass)).sum()))
                others += int(expected.argmax() != by_pass.argmax())
    return {
        "tokens": len(divergences),
        "kl": statistics.mean(divergences),
        "kl_p99": float(np.quantile(divergences, 0.99)),
        "other_best_tokens": others,
    }


def log_softmax(logits: np.ndarray) -> np.ndarray:
    wide = logits.astype(np.float64)
    wide -= wide.max(-1, keepdims=True)
    return wide - np.log(np.exp(wide).sum(-1, keepdims=True))


if __name__ == "__main__":
    main()
