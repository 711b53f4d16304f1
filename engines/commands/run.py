"""``laco-engine run``: one question about picture files, answered."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from .command import Command, positive

# What a picture can make a model say must not steer the terminal: control characters but newline and tab.
_CONTROLS = {code: "\ufffd" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a folder written by laco-export")
    parser.add_argument("--image", type=Path, metavar="FILE", action="append", default=[], help="may be repeated")
    parser.add_argument(
        "--question", required=True, metavar="TEXT", help="may place the pictures with <image>; else they come first"
    )
    parser.add_argument("--max-new-tokens", type=positive, metavar="N", help="longest answer (128)")
    parser.add_argument("--max-pixels", type=positive, metavar="N", help="largest picture (100,000,000)")
    parser.add_argument("--threads", type=positive, metavar="N", help="CPU threads (the cores this process may use)")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout instead of the text")


def _run(args: argparse.Namespace) -> int:
    from laco_export.bundle import open_bundle
    from laco_export.console import console
    from laco_export.preprocessing import MAX_PIXELS

    from ..answering import MAX_NEW_TOKENS, Answerer
    from ..prompt import Prompter

    # The cheap checks first: a wrong path or question is reported before a model is loaded.
    start = time.perf_counter()
    with console().status("verifying the bundle"):
        bundle = open_bundle(args.bundle)
        verify_ms = 1000 * (time.perf_counter() - start)
        prompter = Prompter(bundle)
    prompt = prompter.prepare(args.image, args.question, max_pixels=args.max_pixels or MAX_PIXELS)
    with console().status("loading the models"):
        answerer = Answerer(bundle, prompter=prompter, threads=args.threads)
    answer = answerer.generate(
        prompt,
        max_new_tokens=args.max_new_tokens or MAX_NEW_TOKENS,
        on_text=None if args.json else _show,
    )
    timings = {**answer.to_dict().pop("timings"), "verify_ms": verify_ms}
    if args.json:
        document = {
            "bundle": str(args.bundle),
            "source": bundle.manifest.source,
            "images": [str(path) for path in args.image],
            "question": args.question,
            "answer": answer.text,
            "tokens": len(answer.token_ids),
            "token_ids": answer.token_ids,
            "prompt_tokens": answer.prompt_tokens,
            "finish": answer.finish,
            "runtime": answerer.vision.name,
            "timings": timings,
        }
        print(json.dumps(document, indent=2, ensure_ascii=False))
        return 0
    print(flush=True)
    print(_timings_line(answer, len(args.image)), file=sys.stderr)
    return 0


def _show(text: str) -> None:
    print(text.translate(_CONTROLS), end="", flush=True)


def _timings_line(answer, pictures: int) -> str:
    timings = answer.timings
    speed = timings.decode_tokens_per_s
    return " · ".join(
        [
            f"preprocess {timings.preprocess_ms:.1f} ms",
            f"encode {timings.encode_ms:.1f} ms ({pictures} picture{'s' * (pictures != 1)})",
            f"prefill {timings.prefill_ms:.1f} ms ({answer.prompt_tokens} tokens)",
            f"decode {'-' if speed is None else f'{speed:.1f}'} tokens/s ({len(answer.token_ids)} tokens)",
            f"load {timings.load_ms:.0f} ms",
        ]
        + (["cut off at the longest answer"] if answer.finish == "length" else [])
    )


RUN = Command("run", "answer a question about pictures", _add_arguments, _run)
