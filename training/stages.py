"""One stage: from the checkpoint that the stage before it left to the next, resumable at its own checkpoints."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from laco_export.errors import ConfigError, UsageError

from . import processes
from .recipe import StageRecipe

if TYPE_CHECKING:
    from laco_export.models import LacoForConditionalGeneration, LacoProcessor

Shown = Callable[[int], AbstractContextManager[Callable[[int], None]]]


def train_stage(
    start: Path,
    stage: StageRecipe,
    data_folder: Path,
    output: Path,
    *,
    seed: int,
    force: bool = False,
    resume: bool = False,
    tensorboard: Path | None = None,
    record: str | None = None,
    shown: Callable[[int], AbstractContextManager[Callable[[int], None]]] = lambda steps: nullcontext(
        lambda done: None
    ),
) -> list[float]:
    """Train one stage from the checkpoint `start` and write the checkpoint `output` in one step.

    With `stage.save_every` the stage leaves checkpoints in `<output>-progress`, which goes when `output` stands.

    Args:
        resume: go on from the last of them; the losses are those that an uninterrupted run would have had.
        tensorboard: folder for metrics.
        record: the resolved recipe, stored with the checkpoint as `recipe.yaml`.
        shown: opens a progress bar of so many steps.

    Returns:
        the loss of every optimiser step.

    Raises:
        DataError: the data cannot be read, or holds more broken samples than allowed.
        ConfigError: fewer samples than a global batch, or one that the processes cannot share.
        UsageError: the stage was interrupted, and neither `resume` nor `force` was given.
        TrainingError: out of memory, or the loss is not finite any more.
    """
    import transformers

    from laco_export.models import checkpoint

    from .parameter_groups import set_trainable
    from .resuming import last_complete
    from .trainer import DepthSampler, StepProgress

    folder = output.parent / f"{output.name}-progress"
    resumed = _decide_resumption(folder, resume=resume, force=force)
    loaded = checkpoint.load(start)
    model, processor = loaded.model, loaded.processor
    transformers.set_seed(seed)
    prepare_tiling(model, processor, stage)
    set_trainable(model, stage.learning_rates)
    trainer = _make_trainer(model, processor, stage, data_folder, folder, seed=seed, tensorboard=tensorboard)
    if len(model.vision_model.compression.blocks) > 1:
        trainer.add_callback(DepthSampler(model.vision_model, seed))
    with shown(trainer.args.max_steps) as advance:
        trainer.add_callback(StepProgress(advance))
        trainer.train(resume_from_checkpoint=str(last_complete(folder)) if resumed else None)
    _save(trainer, model, processor, stage, output, record=record, force=force)
    return trainer.losses


def open_stage_data(stage: StageRecipe, processor: LacoProcessor, data_folder: Path):
    """The stage's samples (`data.open_dataset`)."""
    from .data import open_dataset

    return open_dataset(
        data_folder / stage.data,
        processor,
        images=data_folder / stage.images if stage.images else None,
        plain=stage.plain,
        max_length=stage.max_length,
        tiled=stage.tiling is not None,
        max_frames=stage.max_frames,
    )


def prepare_tiling(model: LacoForConditionalGeneration, processor: LacoProcessor, stage: StageRecipe) -> None:
    """Let the model and its processor tile single pictures as the stage says.

    A stage of one tile leaves the tiling of a checkpoint as it is: it prepares its own samples untiled.
    """
    if stage.tiling is None:
        return
    height, width = model.vision_model.spec.image_size(model.config.vision_config)
    if height != width:
        raise ConfigError(
            "tiling needs an encoder with a square input", given=f"{height} x {width}", todo="leave tiling out"
        )
    tiling = stage.tiling.for_tile(height)
    model.enable_tiling(tiling)
    processor.tiling = tiling


def _decide_resumption(folder: Path, *, resume: bool, force: bool) -> bool:
    """Whether to go on from `folder`, decided by the main process; an interrupted stage is cleared with `force`."""
    from .resuming import last_complete

    stands = processes.agree(last_complete(folder) is not None)
    if stands and not resume and not force:
        raise UsageError(
            f"this stage was interrupted; what it had done stands in '{folder}'",
            todo="add --resume to go on from there, or --force to start the stage again",
        )
    if not (stands and resume):
        if processes.is_main():
            shutil.rmtree(folder, ignore_errors=True)
        processes.wait()
    return stands and resume


def _make_trainer(
    model, processor, stage: StageRecipe, data_folder: Path, folder: Path, *, seed: int, tensorboard: Path | None
):
    from .data import BrokenSamples, Collator, GroupedSampler
    from .resuming import CheckpointKeeper
    from .trainer import StageTrainer, training_arguments

    dataset = open_stage_data(stage, processor, data_folder)
    steps = stage.steps(len(dataset))
    return StageTrainer(
        model,
        stage,
        dataset,
        training_arguments(
            stage, folder, seed=seed, steps=steps, unused_parts=_may_leave_unused(model), tensorboard=tensorboard
        ),
        sampler=GroupedSampler(dataset, global_batch_size=stage.global_batch_size, seed=seed, group_by=stage.group_by),
        broken=BrokenSamples(folder / "broken-samples.jsonl", limit=stage.max_broken, total=len(dataset)),
        data_collator=Collator(processor.tokenizer.pad_token_id, packed=stage.packed),
        callbacks=[CheckpointKeeper()],
    )


def _may_leave_unused(model) -> bool:
    """Whether a step may use only some of the parameters: one of several merge layers, no tiled picture, or an encoder
    whose last part the features do not pass."""
    vision = model.vision_model
    return len(vision.compression.blocks) > 1 or model.image_newline is not None or vision.final_norm is None


def _save(trainer, model, processor, stage: StageRecipe, output: Path, *, record: str | None, force: bool) -> None:
    """Write the trained checkpoint; all processes take part, because FSDP and DeepSpeed gather the weights from all."""
    from laco_export.models import checkpoint

    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if processes.is_main():
        model.config.untrained = [part for part in model.config.untrained if not trains(stage, part)]
        files = {"recipe.yaml": record} if record else {}
        checkpoint.save(model.eval(), processor, output, force=force, state_dict=weights, files=files)
        shutil.rmtree(trainer.args.output_dir, ignore_errors=True)
    processes.wait()


def trains(stage: StageRecipe, part: str) -> bool:
    """Whether a stage trains a part that `config.untrained` may name."""
    group = {"compressors": "compressor", "projector": "projector", "image_newline": "projector"}[part]
    # Without tiles no row ends, and the newline gets no gradient.
    return group in stage.learning_rates and (part != "image_newline" or stage.tiling is not None)
