"""``laco-train init``: a checkpoint from an encoder folder and a language-model folder, or from a published VLM's."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from laco_export.console import progress, run_command, say
from laco_export.errors import UsageError
from laco_export.utf8 import path_argument

_DTYPES = ("float32", "bfloat16", "float16")
_OF_PARTS = ("compressor", "tiling", "max_tiles", "feature_layer", "match_text_rms", "average_merge")
"""Options that say how parts are put together."""


def build_parser() -> argparse.ArgumentParser:
    """The options of ``laco-train init``."""
    parser = argparse.ArgumentParser(
        prog="laco-train init",
        description="Start a LaCo checkpoint from a pretrained encoder and a pretrained LLM, whose merge layer and "
        "projector are new, and marked untrained until a stage has trained them; or from a published VLM, which stays "
        "what it is until --at puts merges inside.",
        epilog="examples: laco-train init --encoder aimv2-large-patch14-336 --llm Qwen2.5-0.5B-Instruct --at 1/2 "
        "--output checkpoints/laco-half; laco-train init --from-vlm llava-onevision-qwen2-0.5b-ov-hf --output "
        "checkpoints/onevision",
    )
    parser.add_argument(
        "--from-vlm",
        type=path_argument,
        metavar="DIR",
        help="a published vision-language model: LLaVA 1.5, LLaVA-NeXT, LLaVA-OneVision, InternVL 2.5 or 3",
    )
    parser.add_argument("--encoder", type=path_argument, metavar="DIR", help="AIMv2, SigLIP, InternViT or CLIP")
    parser.add_argument("--llm", type=path_argument, metavar="DIR", help="a causal language model, tokenizer too")
    parser.add_argument("--output", type=path_argument, required=True, metavar="CKPT", help="the checkpoint to write")
    parser.add_argument(
        "--at",
        nargs="+",
        metavar="DEPTH",
        help="where the tokens are merged: 1/2, 0.25, block:7, or twice on a path: 1/4+3/4 (default: 1/2, and with "
        "--from-vlm nowhere); several give an elastic checkpoint",
    )
    parser.add_argument(
        "--compressor",
        default="laco",
        metavar="NAME",
        help="default: laco; docs/model.md lists them; none: all tokens stay",
    )
    parser.add_argument(
        "--ratio",
        nargs="+",
        metavar="R",
        help="R x R tokens become one: 2, 3 or 4, 2+3 on a path (default: 2); several: one for each --at",
    )
    parser.add_argument(
        "--tiling",
        type=_grid,
        metavar="ROWSxCOLUMNS",
        help="tile single pictures by grids up to this, such as 6x6 (default: every picture is one tile)",
    )
    parser.add_argument(
        "--max-tiles", type=int, default=9, metavar="N", help="a larger grid is scaled down to N tiles (default: 9)"
    )
    parser.add_argument("--feature-layer", type=int, metavar="N", help="-2: without the last block and the norm")
    parser.add_argument(
        "--match-text-rms", action="store_true", help="scale the projector: visual embeddings start at the text's size"
    )
    parser.add_argument(
        "--average-merge",
        action="store_true",
        help="start the merge as the average of its window, which frozen blocks behind it understand",
    )
    parser.add_argument("--dtype", choices=_DTYPES, help="of all weights (default: the language model's)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the new layers (default: 0)")
    parser.add_argument("--force", action="store_true", help="replace --output once the new checkpoint is complete")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    arguments = build_parser().parse_args(argv)
    return run_command(lambda: _run(arguments), debug=arguments.debug)


def _run(arguments: argparse.Namespace) -> None:
    from laco_export.atomic import refuse_existing
    from laco_export.checkpoint_files import refuse_to_replace_non_checkpoint
    from laco_export.merge_path import DepthPath
    from laco_export.quiet import quiet_libraries

    from .refusals import check_parts, check_published

    for depth in arguments.at or ():
        DepthPath.parse(depth)
    for option, folder in _folders(arguments).items():
        if not folder.is_dir():
            raise UsageError(f"{option}: there is no folder '{folder}'", todo="give the path of a downloaded model")
    refuse_existing(arguments.output, force=arguments.force)
    refuse_to_replace_non_checkpoint(arguments.output)
    if arguments.from_vlm is None:
        check_parts(arguments.encoder, arguments.llm)
    else:
        check_published(arguments.from_vlm)
    with quiet_libraries():
        import torch

        torch.manual_seed(arguments.seed)
        (_start_from_parts if arguments.from_vlm is None else _start_from_vlm)(arguments)


def _folders(arguments: argparse.Namespace) -> dict[str, Path]:
    """The folders to start from, by their options.

    Raises:
        UsageError: both ways of starting are asked for, or neither; or an option of the one with the other.
    """
    parts = {"--encoder": arguments.encoder, "--llm": arguments.llm}
    if arguments.from_vlm is None:
        if missing := [option for option, folder in parts.items() if folder is None]:
            raise UsageError(
                "nothing to start from",
                given=f"no {' and no '.join(missing)}",
                allowed="--encoder and --llm, or --from-vlm",
            )
        return parts
    of_parts = {**parts, **{_option(name): getattr(arguments, name) for name in _OF_PARTS}}
    defaults = build_parser()
    if arguments.ratio and not arguments.at:
        raise UsageError("--ratio is of merges, and there are none", todo="say where they stand: --at 1/2")
    if others := [
        option
        for option, value in of_parts.items()
        if value != defaults.get_default(option.removeprefix("--").replace("-", "_"))
    ]:
        raise UsageError(
            "a published model is started from as it is",
            given=f"--from-vlm and {', '.join(others)}",
            allowed="--at, --ratio, --dtype, --output, --force",
            todo="leave them out, or start from parts by --encoder and --llm",
        )
    return {"--from-vlm": arguments.from_vlm}


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _start_from_vlm(arguments: argparse.Namespace) -> None:
    import torch

    from laco_export.models.published import import_published

    with progress("importing the model", transient=True):
        model = import_published(
            arguments.from_vlm,
            arguments.output,
            at=arguments.at or (),
            ratio=_ratio(arguments),
            dtype=getattr(torch, arguments.dtype) if arguments.dtype else None,
            force=arguments.force,
            say=say,
        )
    if model.config.compression_config.method is None:
        say(f"{arguments.output}: the model as it was published, {model.tokens_per_image} tokens a tile")
        say("next: laco-train price says what a merge at each depth costs; --at puts one inside")
        return
    _say_merges(model)
    say(f"{arguments.output}: the merges are averages, untrained; heal the tower with laco-train distil")


def _start_from_parts(arguments: argparse.Namespace) -> None:
    import torch

    from laco_export.models.initialization import initialize

    method = None if arguments.compressor == "none" else arguments.compressor
    if method is None and arguments.at:
        raise UsageError(
            "--compressor none merges nowhere", given=f"--at {' '.join(arguments.at)}", todo="leave one of the two out"
        )
    arguments.at = arguments.at or ["1/2"]
    with progress("starting the checkpoint", transient=True):
        model = initialize(
            arguments.encoder,
            arguments.llm,
            arguments.output,
            at=arguments.at,
            method=method,
            dtype=getattr(torch, arguments.dtype) if arguments.dtype else None,
            ratio=_ratio(arguments),
            feature_layer=arguments.feature_layer,
            tiling=_tiling(arguments),
            prepare=lambda model, _: _start_new_layers(model, arguments),
            force=arguments.force,
            say=say,
        )
    _say_merges(model)
    if model.config.tiling:
        rows, columns = arguments.tiling
        say(f"single pictures are tiled: grids up to {rows} x {columns}, at most {arguments.max_tiles} tiles")
    untrained = ", ".join(model.config.untrained[:-1]) + " and " if len(model.config.untrained) > 1 else ""
    untrained += model.config.untrained[-1]
    say(f"{arguments.output}: untrained {untrained}; train it with laco-train")


def _say_merges(model) -> None:
    compression = model.config.compression_config
    for depth, path in zip(compression.depths, compression.paths, strict=True):
        say(f"merge at {depth}: {path} of {model.config.num_encoder_blocks}")
    height, width = model.vision_model.grid
    counts = {depth: rows * columns for depth, (rows, columns) in model.config.token_grids.items()}
    each = ", ".join(f"{tokens} at {depth}" for depth, tokens in counts.items())
    become = each if len(set(counts.values())) > 1 else model.tokens_per_image
    say(f"{height * width} tokens a tile " + ("stay" if compression.method is None else f"become {become}"))


def _ratio(arguments: argparse.Namespace) -> str | list[str]:
    """One for all depths, or one for each."""
    ratio = arguments.ratio or ["2"]
    return ratio[0] if len(ratio) == 1 else ratio


def _start_new_layers(model, arguments: argparse.Namespace) -> None:
    from laco_export.models.initialization import average_merges

    from .projector_start import start_at_text_rms

    if arguments.average_merge:
        average_merges(model)
    if arguments.match_text_rms:
        say(start_at_text_rms(model))


def _grid(text: str) -> tuple[int, int]:
    rows, _, columns = text.partition("x")
    if not (rows.isdigit() and columns.isdigit() and int(rows) and int(columns)):
        raise argparse.ArgumentTypeError(f"'{text}' is not ROWSxCOLUMNS, such as 6x6")
    return int(rows), int(columns)


def _tiling(arguments: argparse.Namespace) -> dict | None:
    """The ``tiling`` field of the model; its tile is the encoder's input."""
    if arguments.tiling is None:
        return None
    from laco_export import weight_files
    from laco_export.models.encoders.loading import recognise

    spec, config, _ = recognise(arguments.encoder, weight_files.read_json(arguments.encoder / "config.json"))
    height, width = spec.image_size(config)
    if height != width:
        raise UsageError("--tiling needs an encoder with a square input", given=f"{height} x {width}")
    rows, columns = arguments.tiling
    return {"tile": height, "max_rows": rows, "max_columns": columns, "max_tiles": arguments.max_tiles}
