"""Answers as text and as JSON."""

from __future__ import annotations

import sys

from laco_export.machine import peak_memory

# What a picture can make a model say must not steer the terminal: control characters but newline and tab.
_CONTROLS = {code: "\ufffd" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}


def show(text: str) -> None:
    """Print a piece of an answer as it comes."""
    print(text.translate(_CONTROLS), end="", flush=True)


def show_note(text: str) -> None:
    """Print a line that is not the answer."""
    print(text, file=sys.stderr, flush=True)


def show_timings(answer, pictures: int) -> None:
    """One line about the answer, and one about what was left out of its prompt."""
    if answer.omitted:
        show_note(f"note: left out to fit the context: {answer.omitted}")
    show_note(timings_line(answer, pictures))


def timings_line(answer, pictures: int) -> str:
    """Where the time went, and the memory that this process had resident at its peak (mapped weights included).

    Args:
        pictures: pictures and frames that this prompt showed for the first time.
    """
    timings, speed = answer.timings, answer.timings.decode_tokens_per_s
    cached = f", {answer.cached_tokens} known" if answer.cached_tokens else ""
    per_pass = timings.decode_tokens_per_pass
    passes = "" if per_pass is None else f", {per_pass:.2f} a pass"
    ends = {"length": ["cut off at the longest answer"], "cancelled": ["stopped"]}
    return " · ".join(
        [
            f"first token {timings.first_token_ms:.1f} ms: preprocess {timings.preprocess_ms:.1f}"
            f" + encode {timings.encode_ms:.1f} ({pictures} picture{'s' * (pictures != 1)})"
            f" + prefill {timings.prefill_ms:.1f} ({answer.prompt_tokens} tokens{cached})",
            f"decode {'-' if speed is None else f'{speed:.1f}'} tokens/s ({len(answer.token_ids)} tokens{passes})",
            f"load {timings.load_ms:.0f} ms",
            *([f"peak memory {peak / 2**20:,.0f} MiB"] if (peak := peak_memory()) else []),
            *([f"seed {answer.seed}"] if answer.seed is not None else []),
            *ends.get(answer.finish, []),
        ]
    )


def answer_fields(answer, question: str, answerer) -> dict:
    """What ``--json`` says of an answer, for ``run`` and ``chat`` alike."""
    fields = answer.to_dict()
    return {
        "question": question,
        "answer": answer.text,
        "tokens": fields["tokens"],
        "token_ids": answer.token_ids,
        "prompt_tokens": answer.prompt_tokens,
        "cached_tokens": answer.cached_tokens,
        "omitted": fields["omitted"],
        "finish": answer.finish,
        "stopped_by": answer.stopped_by,
        "seed": answer.seed,
        "runtime": answerer.vision.name,
        "passed_over": list(answerer.vision.passed_over),
        "text_runtime": answerer.text.name,
        "text_runtime_passed_over": list(answerer.text.passed_over),
        "provider": answerer.text.provider,
        "peak_memory_bytes": peak_memory(),
        "timings": fields["timings"],
    }
