"""The stage ``distil``: from a teacher's checkpoint to its student's, resumable at its own checkpoints."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laco_export.errors import UsageError

from .. import processes
from ..recipe import CompressionRecipe, StageRecipe
from ..stages import (
    STARTED_FROM,
    Shown,
    broken_log,
    decide_resumption,
    keep_checkpoints,
    progress_folder,
    trains,
    unshown,
)

if TYPE_CHECKING:
    from laco_export.models import LacoForConditionalGeneration

    from .student import LoadedStudent
    from .trainer import DistillationTrainer

DISTILLATION = "distillation.json"
"""In a student's checkpoint: its price before and after, and its teacher."""


def distil_stage(
    teacher: Path,
    compression: CompressionRecipe,
    stage: StageRecipe,
    data_folder: Path,
    output: Path,
    *,
    seed: int,
    student: Path | None = None,
    force: bool = False,
    resume: bool = False,
    tensorboard: Path | None = None,
    record: str | None = None,
    shown: Shown = unshown,
) -> list[float]:
    """Teach a student to give its teacher's features, and write its checkpoint ``output`` in one step.

    With ``stage.save_every`` it leaves checkpoints in ``<output>-progress``, which goes when ``output`` stands.

    Args:
        teacher: a checkpoint with compression off.
        compression: the student's merges.
        stage: with ``distillation``; ``data`` are its pictures.
        student: a student's checkpoint to go on with, in place of merges that start as averages.
        force, resume, tensorboard, record, shown: as of :func:`~laco_training.stages.train_stage`.

    Returns:
        the loss of every optimiser step.

    Raises:
        ConfigError: teacher and student do not go together, fewer pictures than a global batch, or one that the
            processes cannot share.
        DataError: there are no pictures, or more than ``stage.max_broken`` cannot be read.
        UsageError: it was interrupted, and neither ``resume`` nor ``force`` was given, or the teacher or the pictures
            were changed since then; or a launcher that shards weights.
        OutputExistsError: ``output`` holds something that is no checkpoint.
        TrainingError: out of memory, or the loss is not finite any more.
    """
    import transformers

    from laco_export.checkpoint_files import refuse_to_replace_non_checkpoint

    from ..step_callbacks import StepProgress
    from .student import open_pair

    _check_launcher()
    processes.run_on_main(lambda: refuse_to_replace_non_checkpoint(output))
    folder = progress_folder(output)
    resumed = decide_resumption(folder, resume=resume, force=force)
    transformers.set_seed(seed)  # of the merges' first layers
    needs_language_model = bool(stage.distillation.language_model)
    model, pupil = open_pair(teacher, compression, student=student, language_model=needs_language_model)
    trainer = _make_trainer(model, pupil, stage, data_folder, folder, seed=seed, tensorboard=tensorboard)
    del model  # the trainer has what it needs of the teacher
    keep_checkpoints(trainer, _origin(pupil, trainer, data_folder), resumed)
    before = trainer.prices()
    with shown(trainer.args.max_steps) as advance:
        trainer.add_callback(StepProgress(advance))
        trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
    after = trainer.prices()
    described = {
        "teacher": pupil.teacher_sha256,
        "steps": trainer.state.global_step,
        "before": before,
        "after": after,
        "on_the_way": trainer.curve,
    }
    files = {
        STARTED_FROM: json.dumps({"sha256": pupil.teacher_sha256}) + "\n",
        DISTILLATION: json.dumps(described, indent=1) + "\n",
        **({"recipe.yaml": record} if record else {}),
    }
    _save(trainer, pupil, stage, output, files=files, force=force)
    return trainer.losses


def price_lines(described: Mapping[str, Any]) -> list[str]:
    """What :data:`DISTILLATION` says of each depth, a line each."""
    lines = []
    for depth, before in described["before"].items():
        after = described["after"][depth]
        pictures = f"{after['pictures']} picture{'s' * (after['pictures'] > 1)}"
        lines.append(
            f"merged at {depth}: relative error {before['relative_error']:.3f} before, {after['relative_error']:.3f} "
            f"after; cosine {before['cosine']:.3f} before, {after['cosine']:.3f} after "
            f"({pictures} held out)"
        )
    return lines


def price_curve(described: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What :data:`DISTILLATION` says of the price over the steps, from 0 to the last: ``{"step", depth: {…}}``."""
    first, last = {"step": 0, **described["before"]}, {"step": described["steps"], **described["after"]}
    return [first, *described["on_the_way"], last]


def _check_launcher() -> None:
    """Raise a :class:`UsageError` where weights would be sharded: teacher and student run the same blocks."""
    if processes.shards_weights():
        raise UsageError(
            "the stage distil does not go with FSDP or DeepSpeed: teacher and student share their first blocks",
            todo="launch it with torchrun (DDP)",
        )


def _make_trainer(
    teacher: LacoForConditionalGeneration,
    pupil: LoadedStudent,
    stage: StageRecipe,
    data_folder: Path,
    folder: Path,
    *,
    seed: int,
    tensorboard: Path | None,
) -> DistillationTrainer:
    from ..data import BrokenSamples
    from ..step_callbacks import DepthSampler
    from ..trainer import training_arguments
    from .data import held_out_batches, open_stage_pictures, order_and_collator
    from .pair import Distillation, LossWeights
    from .trainer import DistillationTrainer

    recipe = stage.distillation
    weights = LossWeights(cosine=recipe.cosine, blocks=recipe.blocks, language_model=recipe.language_model)
    distillation = Distillation(teacher, pupil.model, stage.learning_rates, weights)
    dataset, aside = open_stage_pictures(stage, pupil.processor, data_folder, seed=seed)
    sampler, collator = order_and_collator(stage, dataset, seed=seed)
    broken = BrokenSamples(broken_log(folder), limit=stage.max_broken, total=len(dataset) + len(aside))
    arguments = training_arguments(
        stage, folder, seed=seed, steps=stage.steps(len(dataset)), unused_parts=True, tensorboard=tensorboard
    )
    trainer = DistillationTrainer(
        distillation,
        replace(stage, look_every=0),  # a look exchanges the pictures of questions
        dataset,
        arguments,
        first_steps=round(recipe.merge_first * arguments.max_steps) if "compressor" in stage.learning_rates else 0,
        held_out=held_out_batches(aside, stage.per_device_batch_size, broken),
        sampler=sampler,
        broken=broken,
        data_collator=collator,
    )
    if len(pupil.model.vision_model.compression.paths) > 1:
        trainer.add_callback(DepthSampler(pupil.model.vision_model, seed))
    return trainer


def _origin(pupil: LoadedStudent, trainer: DistillationTrainer, data_folder: Path) -> dict:
    """What the stage is made from, see :func:`~laco_training.resuming.check_origin`."""
    from ..stage_data import identity_of

    start = pupil.teacher_sha256 if pupil.sha256 is None else f"{pupil.teacher_sha256} and {pupil.sha256}"
    return {"start": start, "data": identity_of(trainer.train_dataset, data_folder)}


def _save(
    trainer: DistillationTrainer, pupil: LoadedStudent, stage: StageRecipe, output: Path, *, files: dict, force: bool
) -> None:
    from ..trainer import naming_failed_writes
    from .student import write_student

    if processes.is_main():
        config = pupil.model.config
        config.untrained = [part for part in config.untrained if not trains(stage, part)]
        with naming_failed_writes(f"the checkpoint '{output}'"):
            write_student(pupil, output, files=files, force=force)
        shutil.rmtree(trainer.args.output_dir, ignore_errors=True)
    processes.wait()
