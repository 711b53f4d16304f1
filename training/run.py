"""Running a recipe: every part is written in one step, and what stands in the run's folder is not made again.

OUT/recipe.json            the resolved recipe and seed: a resumed run must have the same
OUT/data/                  drawn data (tiny)
OUT/stage-0/encoder, llm   pretrained parts (tiny), ordinary transformers folders
OUT/stage-0/checkpoint     encoder, fresh merge layer, fresh projector, LLM: where stage 1 starts
OUT/stage-1 … stage-2-ov   the checkpoint that each stage left
OUT/checkpoint             the last of them: what `laco-export` takes
OUT/training.json          recipe, seconds, losses, accuracy
OUT/losses.png             the loss curves
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from laco_export.atomic import new_directory, write_json
from laco_export.console import console, progress
from laco_export.errors import OutputExistsError, UsageError
from laco_export.models.weight_files import read_json

from .recipe import STAGES, Recipe
from .stages import samples_of, steps_of, train_stage


def run_recipe(
    recipe: Recipe, output: Path, *, seed: int, only: str | None = None, resume: bool = False, force: bool = False
) -> dict:
    """Run all stages of a recipe, or the stage `only`, and return what `training.json` holds.

    Args:
        resume: keep the parts that stand in `output`.
        force: replace `output` (with `only`: that stage's checkpoint) once the new one is complete.

    Raises:
        OutputExistsError: `output` stands already, and neither `resume`, `force` nor `only` was given.
        UsageError: `only` needs a stage that was not run, or `output` was made by another recipe or seed.
    """
    if only is None and not resume and not force and output.exists():
        raise OutputExistsError(
            f"the output '{output}' exists already",
            todo="add --resume to run what is missing, --force to replace it, or choose another --output",
        )
    _quiet_transformers()
    if only is None and force and not resume:
        with new_directory(output, force=True) as folder:
            return _Run(recipe, folder, seed).everything()
    output.mkdir(parents=True, exist_ok=True)
    run = _Run(recipe, output, seed)
    return run.everything() if only is None else run.one_stage(only, force=force)


class _Run:
    """One run folder; each `make_*` does nothing where its part stands already."""

    def __init__(self, recipe: Recipe, folder: Path, seed: int):
        self.recipe, self.folder, self.seed = recipe, folder, seed
        described = {"recipe": asdict(recipe), "seed": seed}
        record = folder / "recipe.json"
        if record.exists() and (found := read_json(record)) != described:
            differing = [key for key in described["recipe"] if found["recipe"].get(key) != described["recipe"][key]]
            raise UsageError(
                f"the run in '{folder}' was started with another recipe or seed",
                given=f"seed {seed}, started with {found['seed']}; differing keys: {', '.join(differing) or 'none'}",
                todo="choose another --output, or replace the run with --force and without --resume",
            )
        write_json(record, described)
        log = folder / "training.json"
        self.result = read_json(log) if log.exists() else {**described, "parts": {}}
        self.data = folder / "data" if recipe.tiny else Path(recipe.data_folder)

    def everything(self) -> dict:
        self.prepare()
        for name, _ in self.recipe.ordered_stages():
            self.make_stage(name)
        self.finish()
        return self.result

    def one_stage(self, name: str, *, force: bool) -> dict:
        if name not in self.recipe.stages:
            raise UsageError(f"the recipe has no stage {name}", allowed=", ".join(self.recipe.stages))
        if self._stage_folder(name).exists() and not force:
            raise OutputExistsError(
                f"stage {name} stands already in '{self.folder}'", todo="add --force to train it again"
            )
        self.prepare()
        self.make_stage(name, force=force)
        if name == self.recipe.ordered_stages()[-1][0]:
            self.finish(force=force)
        return self.result

    def prepare(self) -> None:
        """Everything before stage 1."""
        if self.recipe.tiny:
            from .tiny.start import make_start

            for name, make, steps in make_start(self.recipe.tiny, self.folder, self.seed):
                self._part(name, self.folder / name, steps, make)
        start = self.folder / "stage-0" / "checkpoint"
        if not start.exists():
            self._initialize(start)

    def _initialize(self, start: Path) -> None:
        import torch

        from laco_export.models.initialization import initialize

        model = self.recipe.model
        torch.manual_seed(self.seed)
        initialize(
            model.encoder or self.folder / "stage-0" / "encoder",
            model.language_model or self.folder / "stage-0" / "llm",
            start,
            at=model.at,
            method=model.method,
            ratio=model.ratio,
            mlp_hidden_size=model.mlp_hidden_size,
        )

    def make_stage(self, name: str, *, force: bool = False) -> None:
        """Train one stage from the one before it in the recipe."""
        order = [stage for stage, _ in self.recipe.ordered_stages()]
        position = order.index(name)
        before = self._stage_folder(order[position - 1]) if position else self.folder / "stage-0" / "checkpoint"
        if not before.exists():
            raise UsageError(
                f"stage {name} starts from stage {order[position - 1]}, which was not run in '{self.folder}'",
                todo=f"run --stage {order[position - 1]} first, or leave --stage out",
            )
        stage, output = self.recipe.stages[name], self._stage_folder(name)
        seed = self.seed + 1 + STAGES.index(name)  # each stage shuffles in its own way
        self._part(
            f"stage-{name}",
            output,
            steps_of(stage, samples_of(self.data / stage.data)),
            lambda advance: train_stage(before, stage, self.data, output, seed=seed, force=force, advance=advance),
            force=force,
        )

    def finish(self, *, force: bool = True) -> None:
        """Copy the last stage to `checkpoint`, evaluate it, and draw the losses."""
        from .loss_curves import draw_losses

        last = self._stage_folder(self.recipe.ordered_stages()[-1][0])
        with new_directory(self.folder / "checkpoint", force=force) as partial:
            shutil.copytree(last, partial, dirs_exist_ok=True)
        if self.recipe.tiny:
            self.result["evaluation"] = self._evaluate()
        write_json(self.folder / "training.json", self.result)
        draw_losses({name: part["losses"] for name, part in self.result["parts"].items() if part["losses"]}).save(
            self.folder / "losses.png"
        )

    def _evaluate(self) -> dict:
        from laco_export.models import checkpoint

        from .evaluation import evaluate

        with progress("held-out questions"):
            loaded = checkpoint.load(self.folder / "checkpoint")
            return evaluate(loaded.model, loaded.processor, self.data / "heldout.json").to_dict()

    def _stage_folder(self, name: str) -> Path:
        return self.folder / f"stage-{name}"

    def _part(
        self, name: str, output: Path, steps: int, make: Callable[[Callable], list[float]], *, force: bool = False
    ) -> None:
        """Make one part with a progress bar, and keep its seconds and losses."""
        if output.exists() and not force:
            return
        wall, cpu = time.monotonic(), time.process_time()
        with progress(name, steps) as advance:
            losses = make(advance)
        seconds, cpu_seconds = time.monotonic() - wall, time.process_time() - cpu
        self.result["parts"][name] = {
            "steps": steps,
            "seconds": round(seconds, 1),
            "cpu_seconds": round(cpu_seconds, 1),
            "losses": losses,
        }
        write_json(self.folder / "training.json", self.result)
        loss = f", loss {losses[-1]:.3f}" if losses else ""
        console().print(f"{name}: {steps} steps in {seconds:.0f} s{loss}")


def _quiet_transformers() -> None:
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
