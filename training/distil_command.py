"""``laco-train distil``: a model that merges inside is taught to give the features that it gave before."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from laco_export.console import console, progress, run_command, say
from laco_export.errors import UsageError
from laco_export.standard_streams import print_json
from laco_export.utf8 import path_argument

_STEPS, _BATCH = 1000, 32
_RATES = {"compressor": 1e-3, "encoder": 1e-4}
"""Of the merge, which begins at nothing, and of the blocks behind it, which only have to get used to averages."""


def build_parser() -> argparse.ArgumentParser:
    """The options of ``laco-train distil``."""
    parser = argparse.ArgumentParser(
        prog="laco-train distil",
        description="Put merges inside a model's vision tower and teach the tower to give the features that it gave "
        "before, on pictures alone. The language model is not changed, and not loaded. First the merge is trained, "
        "then the encoder's blocks behind it too; prints what the merge costs in features before and after.",
        epilog="example: laco-train distil --teacher checkpoints/llava --at 1/2 --images photos.zip "
        "--output checkpoints/llava-half",
    )
    parser.add_argument(
        "--teacher", type=path_argument, required=True, metavar="CKPT", help="a LaCo checkpoint with compression off"
    )
    parser.add_argument(
        "--images",
        type=path_argument,
        required=True,
        metavar="PATH",
        help="a folder, zip or tar of pictures, parquet, or conversations (.json, .yaml), whose pictures are taken",
    )
    parser.add_argument("--output", type=path_argument, required=True, metavar="CKPT", help="the student's checkpoint")
    parser.add_argument(
        "--at",
        nargs="+",
        metavar="DEPTH",
        help="where the tokens are merged: 1/2, block:7, 1/4+3/4 (default: 1/2); several give an elastic checkpoint",
    )
    parser.add_argument(
        "--ratio",
        nargs="+",
        metavar="R",
        help="R x R tokens become one: 2 (default), 3 or 4; 2+3 of a path's merges",
    )
    parser.add_argument(
        "--student",
        type=path_argument,
        metavar="CKPT",
        help="go on with this student of the teacher's; --at is its own",
    )
    parser.add_argument("--steps", type=int, default=_STEPS, metavar="N", help=f"optimiser steps (default: {_STEPS})")
    parser.add_argument("--batch", type=int, default=_BATCH, metavar="N", help=f"pictures a step (default: {_BATCH})")
    parser.add_argument("--per-device", type=int, metavar="N", help="pictures a forward pass (default: 8 at most)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a key of the stage, such as learning_rates.encoder=5e-5 or distillation.blocks=0.5; docs/distillation.md "
        "lists them; may be given several times",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of everything random (default: 0)")
    parser.add_argument("--tensorboard", type=path_argument, metavar="DIR", help="write metrics of every step there")
    parser.add_argument("--resume", action="store_true", help="go on where an interrupted command saved (save_every)")
    parser.add_argument("--force", action="store_true", help="replace --output once the new checkpoint is complete")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    parser.add_argument("--json", action="store_true", help="print the plan or the prices as JSON on stdout")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    arguments = build_parser().parse_args(argv)
    return run_command(lambda: _run(arguments), debug=arguments.debug)


def _run(arguments: argparse.Namespace) -> None:
    from laco_export.atomic import refuse_existing
    from laco_export.checkpoint_files import refuse_to_replace_non_checkpoint
    from laco_export.quiet import quiet_libraries
    from laco_export.required_packages import TRAINING_PACKAGES, require_packages

    from . import processes
    from .data.picture_sources import require_pictures
    from .recipe import check_seed
    from .refusals import check_checkpoint
    from .replacing import refuse_to_replace_start

    for option, folder in (("--teacher", arguments.teacher), ("--student", arguments.student)):
        if folder is not None and not folder.is_dir():
            raise UsageError(f"{option}: there is no folder '{folder}'", todo="give the path of a LaCo checkpoint")
    if arguments.tensorboard and not find_spec("tensorboard"):
        raise UsageError("--tensorboard needs TensorBoard, which is not installed", todo="pip install tensorboard")
    check_seed(arguments.seed)
    processes.check_launcher()
    recipe = _recipe(arguments)  # refused, if it is, before PyTorch is asked what is here
    teacher = check_checkpoint(arguments.teacher)
    teacher.compression.refuse_merges()
    if arguments.student is not None:
        check_checkpoint(arguments.student)
    require_pictures(arguments.images)
    if not arguments.dry_run:
        refuse_to_replace_start(arguments.output, arguments.teacher)
        processes.run_on_main(lambda: refuse_existing(arguments.output, force=arguments.force))
        processes.run_on_main(lambda: refuse_to_replace_non_checkpoint(arguments.output))
    if arguments.student is None:
        teacher.check_merges(recipe.compression.at, recipe.compression.ratio)
    require_packages(*TRAINING_PACKAGES)
    with quiet_libraries():
        recipe = _recipe(arguments, precision="fp32" if processes.on_cpu() else "bf16")
        if arguments.dry_run:
            _show_plan(recipe, arguments)
        else:
            _distil(recipe, arguments)
    processes.leave()


def _recipe(arguments: argparse.Namespace, precision: str = "fp32"):
    """A recipe of the one stage, which is checked, planned and recorded as any other."""
    from .recipe_files import recipe_from_mapping

    stage = {
        "data": str(arguments.images.absolute()),
        "learning_rates": dict(_RATES),
        "global_batch_size": arguments.batch,
        "per_device_batch_size": arguments.per_device,
        "max_steps": arguments.steps,
        "precision": precision,
    }
    values = {
        "name": "distil",
        "model": {"checkpoint": str(arguments.teacher)},
        "compression": _compression(arguments),
        "data_folder": ".",
        "stages": {"distil": stage},
        "seed": arguments.seed,
    }
    overrides = [f"stages.distil.{setting}" for setting in arguments.set]
    return recipe_from_mapping(values, source="laco-train distil", overrides=overrides)


def _compression(arguments: argparse.Namespace) -> dict:
    """The recipe's section; of a student that stands, what it has."""
    if arguments.student is None:
        ratio = arguments.ratio or ["2"]
        return {"at": arguments.at or ["1/2"], "ratio": ratio[0] if len(ratio) == 1 else ratio}
    if arguments.at or arguments.ratio:
        raise UsageError(
            "a student has merges of its own",
            given="--student with --at or --ratio",
            todo="leave these out, or --student, which makes a new one",
        )
    from laco_export.stated_checkpoint import read_stated_checkpoint

    stated = read_stated_checkpoint(arguments.student).compression
    fields = ("method", "ratio", "mlp_hidden_size", "merge_before_final_norm")
    return {"at": list(stated.depths) or ["1/2"], **{name: getattr(stated, name) for name in fields}}


def _show_plan(recipe, arguments: argparse.Namespace) -> None:
    from . import processes
    from .plan import make_plan
    from .plan_view import plan_renderables

    with progress("working out the plan", transient=True):
        plan = make_plan(recipe)
    if processes.is_main() and arguments.json:
        print_json(plan.values)
    elif processes.is_main():
        console().print(*plan_renderables(plan), sep="\n")


def _distil(recipe, arguments: argparse.Namespace) -> None:
    from laco_export.weight_files import read_json

    from . import processes
    from .distillation.stage import DISTILLATION, distil_stage, price_lines
    from .recipe import DISTIL, stage_seed
    from .recipe_files import recipe_yaml
    from .run import shown

    losses = distil_stage(
        arguments.teacher,
        recipe.compression,
        recipe.stages[DISTIL],
        Path(recipe.data_folder),
        arguments.output,
        seed=stage_seed(arguments.seed, DISTIL),
        student=arguments.student,
        force=arguments.force,
        resume=arguments.resume,
        tensorboard=arguments.tensorboard,
        record=recipe_yaml(recipe, seed=arguments.seed, stage=DISTIL),
        shown=lambda steps: shown(DISTIL, steps),
    )
    if not processes.is_main():
        return
    described = read_json(arguments.output / DISTILLATION)
    if arguments.json:
        print_json({**described, "losses": losses})
        return
    say(f"{len(losses)} steps, loss {losses[0]:.3f} to {losses[-1]:.3f}")
    for line in price_lines(described):
        say(line)
    say(f"the checkpoint: {arguments.output}; now: laco-export --model {arguments.output}")
