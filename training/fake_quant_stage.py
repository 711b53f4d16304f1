"""``laco-train --fake-quant BUNDLE``: a finished run fine-tuned for a few hundred steps under a bundle's numbers.

The last stage's recipe goes on from ``OUT/checkpoint`` with a tenth of its learning rates, and leaves
``OUT/fake-quant``: an ordinary checkpoint, to be exported and calibrated again.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

from laco_export.bundle import Bundle, open_bundle
from laco_export.errors import OutputExistsError, UsageError

from . import processes
from .recipe import Recipe, StageRecipe
from .recipe_files import recipe_yaml
from .stages import train_stage

STEPS = 300
"""Optimiser steps: rounding is learnt around in a few hundred, as papers on quantisation-aware fine-tuning have it."""

RATE = 0.1
"""Of the stage's learning rates: the model is trained already, and has to move by less than it learnt."""

NAME = "fake-quant"


def fine_tune(
    recipe: Recipe,
    output: Path,
    bundle_folder: Path,
    *,
    seed: int,
    only: str | None = None,
    steps: int = STEPS,
    resume: bool = False,
    force: bool = False,
    shown: Callable[[int], AbstractContextManager[Callable[..., None]]] = lambda steps: nullcontext(
        lambda *_, **__: None
    ),
) -> dict:
    """Fine-tune ``output/checkpoint`` into ``output/fake-quant``.

    Args:
        only: the stage whose recipe is followed; default: the recipe's last.

    Returns:
        ``{"steps", "linears", "losses"}``; linears: how many layers were rounded.

    Raises:
        UsageError: the run is not finished or has no such stage; the bundle is not calibrated or not of its checkpoint.
        OutputExistsError: ``output/fake-quant`` stands already.
        BundleError: the bundle is damaged.
    """
    if not processes.agree((output / "checkpoint").exists()):
        raise UsageError(
            f"--fake-quant goes on from a finished run, and '{output}' has no checkpoint",
            todo="run the recipe first, or name its folder with --output",
        )
    if processes.agree((output / NAME).exists()) and not force:
        raise OutputExistsError(f"'{output / NAME}' exists already", todo="add --force to replace it")
    name = only or recipe.ordered_stages()[-1][0]
    if name not in recipe.stages:
        raise UsageError(f"the recipe has no stage {name}", allowed=", ".join(recipe.stages))
    data = output / "data" if recipe.tiny else Path(recipe.data_folder)
    bundle, attached = open_bundle(bundle_folder), []
    losses = train_stage(
        output / "checkpoint",
        _gentle(recipe.stages[name]),
        data,
        output / NAME,
        seed=seed,
        steps=steps,
        force=force,
        resume=resume,
        record=recipe_yaml(recipe, seed=seed, stage=f"{name}, {steps} steps under '{bundle_folder.name}',"),
        prepare=lambda loaded: attached.append(_attach(loaded, bundle)),
        shown=shown,
    )
    return {"steps": len(losses), "linears": attached[0], "losses": losses}


def _attach(loaded, bundle: Bundle) -> int:
    from .fake_quantization import attach

    stated = bundle.manifest.source.get("sha256")
    if stated != loaded.sha256:
        raise UsageError(
            f"bundle '{bundle.path}' is of another checkpoint: its scales would mean nothing here",
            given=f"checkpoint {str(stated)[:16]}…",
            allowed=f"checkpoint {loaded.sha256[:16]}…, that of '{loaded.path}'",
            todo="export and calibrate the run's own checkpoint",
        )
    return attach(loaded.model, bundle)


def _gentle(stage: StageRecipe) -> StageRecipe:
    """The stage at :data:`RATE` of its learning rates."""
    rates = {name: rate * RATE for name, rate in stage.learning_rates.items()}
    # Rounded blocks give other outputs than those that were kept.
    return replace(
        stage,
        keep_frozen_outputs=False,
        learning_rates=rates,
        min_learning_rate=min(stage.min_learning_rate, *rates.values()),
    )
