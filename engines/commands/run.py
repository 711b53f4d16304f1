"""``laco-engine run``: questions about pictures and videos, answered."""

from __future__ import annotations

import argparse
import time
from itertools import count
from pathlib import Path

from laco_export.standard_streams import print_json
from laco_export.utf8 import standard_input_lines, text_argument

from .answer_arguments import add_answer_arguments, check_runtime_names, generation_options, open_answerer
from .answer_output import answer_fields, show, show_timings
from .command import Command, positive


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_answer_arguments(parser)
    parser.add_argument(
        "--question",
        type=text_argument,
        metavar="TEXT",
        action="append",
        default=[],
        help="may place the pictures with <image> and the videos with <video>; else they come first; may be repeated",
    )
    parser.add_argument(
        "--questions", metavar="FILE", help="further questions, one a line, about the same pictures; - reads stdin"
    )
    parser.add_argument(
        "--batch", type=positive, metavar="N", default=1, help="questions answered at once (1; 1 streams the answers)"
    )


def _run(args: argparse.Namespace) -> int:
    from laco_export.bundle import open_bundle
    from laco_export.console import progress
    from laco_export.errors import UsageError

    from ..prompts.prompter import Prompter

    # The cheap checks first: a wrong option, path or question is reported before a model is loaded.
    options, questions = generation_options(args), _questions(args)
    check_runtime_names(args)
    if options.prompt_lookup and args.batch > 1:
        raise UsageError("--prompt-lookup answers one question at a time", given=f"--batch {args.batch}")
    start = time.perf_counter()
    with progress("verifying the bundle", transient=True):
        bundle = open_bundle(args.bundle, args.at)
        verify_ms = 1000 * (time.perf_counter() - start)
        prompter = Prompter(bundle)
    prompts = _prepare(prompter, args, questions, options)
    with progress("loading the models", transient=True):
        answerer = open_answerer(bundle, prompter, args)
    about = {
        "bundle": str(args.bundle),
        "source": bundle.manifest.source,
        "depth": bundle.depths[0],
        "images": [str(path) for path in args.image],
        "videos": [str(path) for path in args.video],
    }
    several, number = len(questions) > 1, count()
    for first in range(0, len(prompts), args.batch):
        batch = prompts[first : first + args.batch]
        asked = questions[first : first + args.batch]
        if several and len(batch) == 1 and not args.json:
            show(f"{asked[0]}\n")
        if len(batch) == 1:
            answers = [answerer.generate(batch[0], options, on_text=None if args.json else show)]
        else:
            answers = answerer.generate_batch(batch, options)
        for question, prompt, answer in zip(asked, batch, answers, strict=True):
            if args.json:
                document = about | answer_fields(answer, question, answerer)
                document["timings"]["verify_ms"] = verify_ms
                print_json(document, indent=None if several else 2)
                continue
            if len(batch) > 1:
                show(f"{question}\n{answer.text}")
            print("\n" if several else "", flush=True)
            show_timings(answer, len(prompt.visuals) if next(number) == 0 else 0)
    return 0


def _questions(args: argparse.Namespace) -> list[str]:
    from laco_export.errors import UsageError

    questions = list(args.question)
    if args.questions == "-":
        questions += [line.strip() for line in standard_input_lines() if line.strip()]
    elif args.questions is not None:
        path = Path(args.questions)
        if not path.is_file():
            raise UsageError(
                f"--questions '{path}' is not a file", allowed="a text file with one question a line, or -"
            )
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise UsageError(f"--questions '{path}' is not UTF-8 text: {error}") from None
        questions += [line.strip() for line in lines if line.strip()]
    if not questions:
        raise UsageError("there is no question", todo="give one with --question TEXT, or several with --questions FILE")
    return questions


def _prepare(prompter, args: argparse.Namespace, questions: list[str], options) -> list:
    """A prompt for each question; the pictures and videos are read once."""
    from laco_export.preprocessing import MAX_PIXELS

    start = time.perf_counter()
    limits = {"max_pixels": args.max_pixels or MAX_PIXELS, "max_frames": args.frames}
    shared = {"system": args.system, "room": options.max_new_tokens, "on_overflow": args.on_overflow}
    alone = len(args.image) == 1 and not args.video
    pictures = [prompter.preparer.picture(path, alone=alone, max_pixels=limits["max_pixels"]) for path in args.image]
    videos = [prompter.preparer.video(path, **limits) for path in args.video]
    prompts = []
    for question in questions:
        prompts.append(prompter.prepare(pictures, question, videos=videos, start=start, **shared))
        start = time.perf_counter()
    return prompts


RUN = Command("run", "answer questions about pictures and videos", _add_arguments, _run)
