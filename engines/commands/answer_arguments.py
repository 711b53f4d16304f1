"""The arguments that ``run`` and ``chat`` share, and what they become."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

from laco_export.utf8 import path_argument, text_argument

from .command import add_depth_argument, positive


def add_answer_arguments(parser: argparse.ArgumentParser) -> None:
    """Pictures, generation, the context and the machine."""
    parser.add_argument("bundle", type=path_argument, metavar="BUNDLE", help="a folder written by laco-export")
    add_depth_argument(parser, "its first")
    parser.add_argument("--image", type=Path, metavar="FILE", action="append", default=[], help="may be repeated")
    parser.add_argument(
        "--video",
        type=Path,
        metavar="PATH",
        action="append",
        default=[],
        help="an animated GIF, WebP or PNG, a folder of frames, or (with PyAV) mp4, webm and so on; may be repeated",
    )
    parser.add_argument("--frames", type=positive, metavar="N", help="frames taken of a video (the checkpoint's)")
    parser.add_argument("--system", type=text_argument, metavar="TEXT", help="what stands before the first question")
    parser.add_argument("--max-pixels", type=positive, metavar="N", help="largest picture (100,000,000)")
    decoding = parser.add_argument_group("generation", "greedy, unless a temperature is given")
    decoding.add_argument("--max-new-tokens", type=positive, metavar="N", help="longest answer (128)")
    decoding.add_argument("--temperature", type=float, metavar="T", help="sample; 0 takes the best token (0)")
    decoding.add_argument("--top-p", type=float, metavar="P", help="sample from this share of probability")
    decoding.add_argument("--top-k", type=int, metavar="K", help="sample from the K likeliest; 0: from all")
    decoding.add_argument(
        "--min-p", type=float, metavar="P", help="sample from tokens this share as likely as the best"
    )
    decoding.add_argument("--repetition-penalty", type=float, metavar="R", help="above 1: less repetition")
    decoding.add_argument("--presence-penalty", type=float, metavar="X", help="off the logits of tokens said (0)")
    decoding.add_argument("--frequency-penalty", type=float, metavar="X", help="the same, once for each time said (0)")
    decoding.add_argument("--seed", type=int, metavar="N", help="repeats a sampled answer")
    decoding.add_argument(
        "--stop",
        type=text_argument,
        metavar="TEXT",
        action="append",
        help="ends the answer and is not shown; may be repeated",
    )
    decoding.add_argument(
        "--on-overflow",
        choices=("error", "truncate"),
        default="error",
        help="where the prompt outgrows the context: refuse it, or leave out its oldest part (error)",
    )
    add_prompt_lookup_argument(decoding)
    add_machine_arguments(parser)
    parser.add_argument("--json", action="store_true", help="JSON on stdout instead of the text")


def open_answerer(bundle, prompter, args: argparse.Namespace, **further):
    """The :class:`~laco_engines.answering.Answerer` on the runtimes and the machine that the arguments name, with what
    else it may be told."""
    from ..answering import Answerer

    return Answerer(
        bundle,
        prompter=prompter,
        runtime=args.runtime,
        text_runtime=args.text_runtime,
        prompt_lookup=args.prompt_lookup,
        threads=args.threads,
        provider=args.provider,
        **further,
    )


def add_machine_arguments(parser: argparse.ArgumentParser) -> None:
    """What runs the models; ``serve`` takes these too."""
    machine = parser.add_argument_group("machine")
    machine.add_argument("--threads", type=positive, metavar="N", help="CPU threads (the cores this process may use)")
    machine.add_argument(
        "--provider", metavar="NAME", help="ONNX Runtime's: cpu, cuda, tensorrt (the best that is there, but tensorrt)"
    )
    machine.add_argument(
        "--runtime",
        metavar="NAME",
        help="of the vision tower: tensorrt, tensorrt-rtx, onnxruntime (the best that is there; with --provider:"
        " onnxruntime)",
    )
    add_text_runtime_argument(machine)


def add_text_runtime_argument(group) -> None:
    """What runs the language model; ``bench`` and ``diff`` take it too."""
    group.add_argument(
        "--text-runtime",
        metavar="NAME",
        help="of the language model: optimum, or lean, without PyTorch (optimum, where it is installed)",
    )


def add_prompt_lookup_argument(group) -> None:
    """``serve`` takes it too."""
    group.add_argument(
        "--prompt-lookup",
        nargs="?",
        const="exact",
        metavar="MODE",
        help="faster where answers copy from the conversation: exact (the default mode) gives the same tokens, close "
        "the same but for rounding, for int8 and int4; takes the text runtime lean (off)",
    )


def generation_options(args: argparse.Namespace):
    """:class:`~laco_engines.generation.options.GenerationOptions` of the arguments; validated."""
    from ..generation.options import GenerationOptions

    named = {field.name: getattr(args, field.name) for field in fields(GenerationOptions)}
    chosen = {name: value for name, value in named.items() if value is not None}
    return GenerationOptions(**chosen)


def check_runtime_names(args: argparse.Namespace) -> None:
    """Refuse a text runtime or a provider that is not there before anything is read or loaded."""
    from ..generation.text_runtime import choose_text_runtime

    if args.text_runtime or args.prompt_lookup:
        choose_text_runtime(args.text_runtime, prompt_lookup=args.prompt_lookup is not None)
    if args.provider:
        from ..providers import choose_provider

        choose_provider(args.provider)
