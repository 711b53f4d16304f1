"""``laco-train``: run a recipe, or show what it would do.

torch and transformers are imported when training starts, so ``--help`` and usage errors come at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from laco_export.console import console, progress, run_command, say
from laco_export.standard_streams import print_json
from laco_export.utf8 import path_argument, restart_in_utf8

DESCRIPTION = """\
Train a LaCo model in LLaVA-OneVision's stages: 1 (merge layer and projector, captions), 1.5, 2-si (single image) and
2-ov (one vision), each from the checkpoint of the one before.

The recipe "tiny" draws its own pictures, pretrains a small encoder and a small LLM (stage 0), and ends in a checkpoint
that answers questions about pictures after a few minutes on two CPU cores. The paper's recipe is built in for three
encoders: laco_aimv2_qwen2.5_0.5b, laco_siglip_qwen2.5_0.5b, laco_internvit_qwen2.5_0.5b.

Several processes: torchrun --nproc-per-node 8 -m laco_training --recipe … (or accelerate launch; see docs/training.md).

"laco-train init" starts a checkpoint from an encoder folder and a language-model folder, or from a published
vision-language model; "laco-train price" says what a merge inside its encoder costs, "laco-train distil" puts it there
and heals it on pictures alone; "laco-train look" measures what a picture is worth to a checkpoint. Each has a --help.
"""

_COMMANDS = ("init", "price", "distil", "look")


def build_parser() -> argparse.ArgumentParser:
    """The options of ``laco-train``."""
    parser = argparse.ArgumentParser(
        prog="laco-train", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", required=True, metavar="NAME|FILE.yaml", help="a built-in recipe or your own")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a key of the recipe, such as compression.at=1/4; may be given several times",
    )
    parser.add_argument(
        "--stage", metavar="distil|1|1.5|2-si|2-ov", help="run this stage alone, on what --output holds"
    )
    parser.add_argument(
        "--output", type=path_argument, metavar="DIR", help="folder of the run (default: ./<recipe>-run)"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="of everything random (default: the recipe's)")
    parser.add_argument("--resume", action="store_true", help="keep what --output holds; run only what is missing")
    parser.add_argument("--force", action="store_true", help="replace the run in --output once the new one is complete")
    parser.add_argument(
        "--fake-quant",
        type=path_argument,
        metavar="BUNDLE",
        help="fine-tune the finished run in --output for 300 steps under a calibrated bundle's rounding",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    parser.add_argument("--json", action="store_true", help="print the plan or the result as JSON on stdout")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    if argv is None:
        restart_in_utf8()
    words = sys.argv[1:] if argv is None else list(argv)
    if words[:1] and words[0] in _COMMANDS:
        return import_module(f".{words[0]}_command", __package__).main(words[1:])
    arguments = build_parser().parse_args(words)
    return run_command(lambda: _run(arguments), debug=arguments.debug)


def _run(arguments: argparse.Namespace) -> None:
    from . import processes
    from .recipe import check_seed, check_stage
    from .recipe_files import load_recipe

    recipe = load_recipe(arguments.recipe, arguments.set)
    if arguments.stage is not None:
        check_stage(arguments.stage)
    seed = recipe.seed if arguments.seed is None else check_seed(arguments.seed)
    if arguments.dry_run:
        _show_plan(replace(recipe, seed=seed), arguments)
        return
    if arguments.fake_quant is not None:
        _fine_tune(recipe, seed, arguments)
        return
    from .run import run_recipe

    output = arguments.output or Path(f"{recipe.name}-run")
    result = run_recipe(recipe, output, seed=seed, only=arguments.stage, resume=arguments.resume, force=arguments.force)
    if processes.is_main() and arguments.json:
        print_json(result)
    elif processes.is_main():
        whole = arguments.stage in (None, recipe.ordered_stages()[-1][0])
        _report(result, output / ("checkpoint" if whole else f"stage-{arguments.stage}"))
    processes.leave()


def _fine_tune(recipe, seed: int, arguments: argparse.Namespace) -> None:
    from . import processes
    from .fake_quant_stage import NAME, fine_tune
    from .run import shown

    output = arguments.output or Path(f"{recipe.name}-run")
    result = fine_tune(
        recipe,
        output,
        arguments.fake_quant,
        seed=seed,
        only=arguments.stage,
        resume=arguments.resume,
        force=arguments.force,
        shown=lambda steps: shown(NAME, steps),
    )
    if processes.is_main() and arguments.json:
        print_json(result)
    elif processes.is_main():
        say(
            f"{result['steps']} steps with {result['linears']} Linear layers rounded, loss {result['losses'][0]:.3f} "
            f"to {result['losses'][-1]:.3f}; the checkpoint: {output / NAME}\nnow: laco-export --model {output / NAME} "
            "--fp32, and laco-calibrate"
        )
    processes.leave()


def _show_plan(recipe, arguments: argparse.Namespace) -> None:
    from laco_export.quiet import quiet_libraries

    from . import processes
    from .plan import make_plan
    from .plan_view import plan_renderables

    with progress("working out the plan", transient=True), quiet_libraries():
        plan = make_plan(recipe, only=arguments.stage)
    if processes.is_main() and arguments.json:
        print_json(plan.values)
    elif processes.is_main():
        console().print(*plan_renderables(plan), sep="\n")
    processes.leave()


def _report(result: dict, trained: Path) -> None:
    evaluation = result.get("evaluation")
    if evaluation:
        from rich.table import Table

        table = Table(title=f"held-out questions: {evaluation['accuracy']:.1%} right")
        for heading in ("kind", "right", "with shuffled pictures"):
            table.add_column(heading)
        for kind, values in evaluation["kinds"].items():
            table.add_row(kind, f"{values['accuracy']:.0%}", f"{values['shuffled']:.0%}")
        console().print(table)
    seconds = sum(part["seconds"] for part in result["parts"].values())
    say(f"trained in {seconds:.0f} s; the checkpoint: {trained}")


if __name__ == "__main__":
    raise SystemExit(main())
