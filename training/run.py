"""Running a recipe: every part is written in one step, and what stands in the run's folder is not made again.

::

    OUT/recipe.json            the resolved recipe and seed: a resumed run must have the same (machine keys apart)
    OUT/data/                  drawn data (tiny)
    OUT/stage-0/encoder, llm   pretrained parts (tiny), ordinary transformers folders
    OUT/stage-0/checkpoint     encoder, fresh merge layer, fresh projector, LLM: where stage 1 starts
    OUT/stage-distil, stage-1 … stage-2-ov   the checkpoint that each stage left, with recipe.yaml
    OUT/stage-…-progress       while that stage runs: what an interrupted run is resumed from
    OUT/checkpoint             the last of them: what laco-export takes
    OUT/training.json          recipe, seconds, losses, accuracy
    OUT/losses.png             the loss curves, and what pictures were worth
    OUT/frozen-outputs         what frozen blocks gave of the pictures, where stages keep it; may be removed
    OUT/tensorboard            metrics of every step, where TensorBoard is installed
    OUT.new                    while --force replaces a run: the new one

Under torchrun or ``accelerate launch`` every process runs this: the main one writes, all train.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from laco_export.atomic import new_directory, write_json
from laco_export.console import progress, say
from laco_export.errors import ConfigError, LacoError, OutputExistsError, UsageError
from laco_export.weight_files import read_json

from . import processes, replacing
from .distillation.stage import DISTILLATION, distil_stage, price_curve, price_lines
from .recipe import DISTIL, Recipe, stage_seed
from .recipe_files import differing_keys, recipe_from_mapping, recipe_yaml, resolved_recipe
from .refusals import check_recipe
from .stages import FROZEN_OUTPUTS, LOOKS, STARTED_FROM, check_context, progress_folder, train_stage

START = Path("stage-0", "checkpoint")
"""In a run's folder: the checkpoint that its first stage is trained from."""

_SHOWN_DIFFERENCES = 8


def run_recipe(
    recipe: Recipe, output: Path, *, seed: int, only: str | None = None, resume: bool = False, force: bool = False
) -> dict:
    """Run all stages of a recipe, or the stage ``only``, and return what ``training.json`` holds.

    Args:
        resume: keep what stands in ``output``, and go on inside the stage that was interrupted.
        force: replace ``output`` (with ``only``: that stage's checkpoint) once the new one is complete; see
            :mod:`.replacing`.

    Raises:
        OutputExistsError: ``output`` stands already, and neither ``resume``, ``force`` nor ``only`` was given; or what
            would be replaced is no run's.
        UsageError: ``only`` needs a stage that was not run, ``output`` was made by another recipe or seed, or the
            launcher asks for what is not installed.
        ConfigError: a global batch that the processes cannot share; found before anything is trained.
    """
    processes.check_launcher()
    processes.run_on_main(lambda: replacing.recover_exchange(output))
    exists, begun = processes.agree((output.exists(), replacing.is_begun(output)))
    if only is None and not resume and not force and exists:
        raise OutputExistsError(
            f"the output '{output}' exists already",
            todo="add --resume to run what is missing, --force to replace it, or choose another --output",
        )
    _check_stages(recipe, only)
    anew = only is None and force and not resume
    processes.run_on_main(lambda: replacing.refuse_to_replace_others(output, whole=anew))
    if anew and recipe.model.checkpoint:
        replacing.refuse_to_replace_start(output, recipe.model.checkpoint)
    start = (replacing.beside(output) if anew or (resume and begun) else output) / START
    processes.run_on_main(lambda: check_recipe(recipe, only=only, has_start=start.exists()))
    _quiet_transformers()
    if only is None and (_begin_replacement(output) if anew else resume and begun):
        return _replace(recipe, output, seed, resume=resume)
    if processes.is_main():
        output.mkdir(parents=True, exist_ok=True)
    processes.wait()
    run = _Run(recipe, output, seed, resume=resume)
    return run.everything() if only is None else run.one_stage(only, force=force)


def _begin_replacement(output: Path) -> bool:
    """Begin to replace the run that stands at ``output``; False where nothing does, and nothing is to be replaced."""
    if not processes.agree((output / "recipe.json").is_file()):
        processes.run_on_main(lambda: replacing.give_up(output))
        return False
    processes.run_on_main(lambda: replacing.begin(output))
    return True


def _replace(recipe: Recipe, output: Path, seed: int, *, resume: bool) -> dict:
    """Train the run that replaces ``output``, and let it take its place."""
    folder = replacing.beside(output)
    if processes.is_main():
        say(
            f"'{output}' stays as it is until the new run is complete; that one is trained in '{folder}'. If it is "
            "interrupted, --resume goes on with it."
        )
    result = _Run(recipe, folder, seed, resume=resume).everything()
    processes.wait()
    processes.run_on_main(lambda: replacing.finish(output))
    return result


class _Run:
    """One run folder; each ``make_*`` does nothing where its part stands already."""

    def __init__(self, recipe: Recipe, folder: Path, seed: int, *, resume: bool = False):
        self.recipe, self.folder, self.seed, self.resume = recipe, folder, seed, resume
        described = {"recipe": resolved_recipe(recipe), "seed": seed}
        record, log = folder / "recipe.json", folder / "training.json"
        earlier = processes.agree(read_json(record) if processes.is_main() and record.exists() else None)
        if earlier:
            earlier["recipe"] = _as_read_now(earlier["recipe"])
        if earlier and (differing := differing_keys(earlier, described)):
            more = f" and {len(differing) - _SHOWN_DIFFERENCES} more" if len(differing) > _SHOWN_DIFFERENCES else ""
            raise UsageError(
                f"the run in '{folder}' was started with another recipe or seed",
                given="; ".join(line.removeprefix("recipe.") for line in differing[:_SHOWN_DIFFERENCES]) + more,
                todo="choose another --output, or start the run again with --force and without --resume",
            )
        if processes.is_main():
            if resume and not earlier:
                say(f"--resume: no run was begun in '{folder}', so it starts at its beginning")
            write_json(record, described)
        self.result = read_json(log) if processes.is_main() and log.exists() else {**described, "parts": {}}
        self.data = folder / "data" if recipe.tiny else Path(recipe.data_folder)

    def everything(self) -> dict:
        self.prepare()
        for name, _ in self.recipe.ordered_stages():
            self.make_stage(name)
        self.finish()
        return self.result

    def one_stage(self, name: str, *, force: bool) -> dict:
        if processes.agree(self._stage_folder(name).exists()) and not force:
            raise OutputExistsError(
                f"stage {name} stands already in '{self.folder}'", todo="add --force to train it again"
            )
        self.prepare()
        self.make_stage(name, force=force)
        if name == self.recipe.ordered_stages()[-1][0]:
            self.finish(force=force)
        return self.result

    def prepare(self) -> None:
        """Everything before stage 1; the other processes wait for the main one."""
        if processes.is_main():
            if self.recipe.tiny:
                from .tiny.start import make_start

                for name, make, steps in make_start(self.recipe.tiny, self.folder, self.seed):
                    if not (self.folder / name).exists():
                        with shown(name, steps) as advance:
                            self._part(name, steps, partial(make, advance))
            if not self.start.exists():
                self._initialize(self.start)
        processes.wait()
        self._check_contexts()

    @property
    def start(self) -> Path:
        """The checkpoint that the first stage is trained from; of a student, its teacher's."""
        if DISTIL in self.recipe.stages:
            return Path(self.recipe.model.checkpoint)
        return self.folder / START

    def _check_contexts(self) -> None:
        """Every stage's samples fit into the language model, before the first is trained."""
        from laco_export.models import checkpoint

        config = checkpoint.read_config(self.start)
        for name, stage in self.recipe.ordered_stages():
            if name == DISTIL:
                continue
            with _naming(name):
                check_context(config, stage)

    def _initialize(self, start: Path) -> None:
        import torch

        from laco_export.models.initialization import initialize

        from .checkpoint_start import start_from_checkpoint

        model = self.recipe.model
        torch.manual_seed(self.seed)
        if model.checkpoint:
            start_from_checkpoint(Path(model.checkpoint), self.recipe.compression, start)
            return
        with progress("starting the checkpoint", transient=True):
            initialize(
                model.encoder or self.folder / "stage-0" / "encoder",
                model.language_model or self.folder / "stage-0" / "llm",
                start,
                say=say,
                prepare=self._start_new_layers,
                **model.options(),
                **self.recipe.compression.options(),
            )

    def _start_new_layers(self, model, processor) -> None:
        """As ``model.merge_start`` and ``model.projector_start`` say; PyTorch's own start is already there."""
        from laco_export.models.initialization import average_merges

        from .projector_start import SAMPLES, start_at_text_rms, start_from_captions

        if self.recipe.model.merge_start == "average":
            average_merges(model)
        if self.recipe.model.projector_start == "text_rms":
            say(start_at_text_rms(model))
        elif self.recipe.model.projector_start == "captions":
            from .stages import open_frozen_stage

            name, stage = self.recipe.ordered_stages()[0]
            seed = stage_seed(self.seed, name)
            outputs = self.folder / FROZEN_OUTPUTS
            with (
                open_frozen_stage(model, processor, stage, self.data, outputs, seed=seed) as data,
                progress("solving for the projector", min(SAMPLES, len(data))) as advance,
            ):
                explained = start_from_captions(model, data, advance=advance)
            say(f"the projector explains {explained:.0%} of the variance of {min(SAMPLES, len(data))} answers' words")

    def make_stage(self, name: str, *, force: bool = False) -> None:
        """Train one stage from the one before it in the recipe."""
        order = [stage for stage, _ in self.recipe.ordered_stages()]
        position = order.index(name)
        before = self._stage_folder(order[position - 1]) if position else self.start
        if not processes.agree(before.exists()):
            raise UsageError(
                f"stage {name} starts from stage {order[position - 1]}, which was not run in '{self.folder}'",
                todo=f"run --stage {order[position - 1]} first, or leave --stage out",
            )
        stage, output = self.recipe.stages[name], self._stage_folder(name)

        if processes.agree(output.exists()) and not force:
            processes.run_on_main(lambda: self._check_start(name, before))
            return
        outputs = {} if name == DISTIL else {"frozen_outputs": self.folder / FROZEN_OUTPUTS}
        train = partial(
            partial(distil_stage, before, self.recipe.compression) if name == DISTIL else partial(train_stage, before),
            stage,
            self.data,
            output,
            seed=stage_seed(self.seed, name),
            force=force,
            resume=self.resume and processes.agree(progress_folder(output).exists()),  # else it was not begun
            tensorboard=self.folder / "tensorboard" / f"stage-{name}" if find_spec("tensorboard") else None,
            record=recipe_yaml(self.recipe, seed=self.seed, stage=name),
            shown=partial(shown, f"stage-{name}"),
            **outputs,
        )
        self._part(f"stage-{name}", None, train)

    def _check_start(self, name: str, before: Path) -> None:
        """A stage that stands was trained from the one before it that stands, which may have been trained again."""
        from laco_export.models import checkpoint

        record = self._stage_folder(name) / STARTED_FROM
        if record.is_file() and read_json(record).get("sha256") != checkpoint.stated_sha256(before):
            raise UsageError(
                f"stage {name} was trained from another checkpoint than the '{before}' that stands now",
                todo=f"train it again with --stage {name} --force, and then the stages after it",
            )

    def finish(self, *, force: bool = True) -> None:
        """Copy the last stage to ``checkpoint``, evaluate it, and draw the losses."""
        if not processes.is_main():
            return
        from laco_export.charts import save_chart

        from .loss_curves import draw_losses

        last = self._stage_folder(self.recipe.ordered_stages()[-1][0])
        with new_directory(self.folder / "checkpoint", force=force) as copied:
            shutil.copytree(last, copied, dirs_exist_ok=True)
        if self.recipe.tiny:
            self.result["evaluation"] = self._evaluate()
        write_json(self.folder / "training.json", self.result)
        parts = {name: part for name, part in self.result["parts"].items() if part["losses"]}
        curves = {name: part["losses"] for name, part in parts.items()}
        looks = {name: part["looks"] for name, part in parts.items() if part.get("looks")}
        prices = {name: part["prices"] for name, part in parts.items() if part.get("prices")}
        save_chart(draw_losses(curves, looks, prices), self.folder / "losses.png")

    def _evaluate(self) -> dict:
        from laco_export.models import checkpoint

        from .evaluation import evaluate

        with progress("held-out questions"):
            loaded = checkpoint.load(self.folder / "checkpoint")
            return evaluate(loaded.model, loaded.processor, self.data / "heldout.json").to_dict()

    def _stage_folder(self, name: str) -> Path:
        return self.folder / f"stage-{name}"

    def _part(self, name: str, steps: int | None, make: Callable[[], list[float]]) -> None:
        """Make one part, and keep its seconds and losses."""
        wall, cpu = time.monotonic(), time.process_time()
        losses = make()
        seconds, cpu_seconds = time.monotonic() - wall, time.process_time() - cpu
        steps = steps or len(losses)
        self.result["parts"][name] = {
            "steps": steps,
            "seconds": round(seconds, 1),
            "cpu_seconds": round(cpu_seconds, 1),
            "losses": losses,
        }
        looks = self.folder / name / LOOKS
        if processes.is_main() and looks.is_file():
            self.result["parts"][name]["looks"] = read_json(looks)["looks"]
        if processes.is_main() and (described := looks.with_name(DISTILLATION)).is_file():
            self.result["parts"][name]["prices"] = price_curve(read_json(described))
        if processes.is_main():
            write_json(self.folder / "training.json", self.result)
            loss = f", loss {losses[-1]:.3f}" if losses else ""
            say(f"{name}: {steps} steps in {seconds:.0f} s{loss}")
            self._tell_of_pictures(name, looks)

    def _tell_of_pictures(self, name: str, looks: Path) -> None:
        """What pictures were worth at the end of a part that trained on them."""
        stage = self.recipe.stages.get(name.removeprefix("stage-"))
        if stage and stage.distillation:
            for line in price_lines(read_json(looks.with_name(DISTILLATION))):
                say(f"{name}: {line}")
        elif looks.is_file():
            ends = read_json(looks)["at_the_end"]
            for where, end in ends.items():
                say(f"{name}: {f'merged after {where}, ' * (len(ends) > 1)}{end['verdict']}")
        elif stage and stage.look_every:
            say(
                f"{name}: what a picture is worth was not measured: no forward pass had pictures to exchange (or the "
                "weights were sharded); laco-train look measures it"
            )


def _as_read_now(recorded: dict) -> dict:
    """A resolved recipe on record with the keys that it had not yet; as it is where it cannot be read any more."""
    try:
        return resolved_recipe(recipe_from_mapping(recorded, source="recipe.json"))
    except LacoError:
        return recorded


def shown(name: str, steps: int):
    """Progress in the main process, nothing in the others."""
    return progress(name, steps) if processes.is_main() else nullcontext(lambda *_, **__: None)


def _check_stages(recipe: Recipe, only: str | None) -> None:
    """The stage is one of the recipe's; the processes of this run can share every stage's global batch, and DeepSpeed
    can shard its optimiser."""
    if only is not None and only not in recipe.stages:
        raise UsageError(f"the recipe has no stage {only}", allowed=", ".join(recipe.stages))
    count = processes.count()
    for name, stage in recipe.ordered_stages():
        if only not in (None, name):
            continue
        if stage.optimizer != "adamw" and processes.by_deepspeed():
            raise ConfigError(
                f"stages.{name}: DeepSpeed does not shard this optimizer",
                given=stage.optimizer,
                allowed="adamw",
                todo="set optimizer: adamw, or launch without DeepSpeed",
            )
        with _naming(name):
            stage.accumulation(count)


@contextmanager
def _naming(stage: str) -> Iterator[None]:
    """Put the stage's key before the errors of its recipe."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(
            f"stages.{stage}: {error.failed}", given=error.given, allowed=error.allowed, todo=error.todo
        ) from None


def _quiet_transformers() -> None:
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
