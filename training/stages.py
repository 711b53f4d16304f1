"""Running the stages one after another, each from the checkpoint that the one before it left."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from math import ceil
from pathlib import Path

from laco_export.errors import LacoError

from .recipe import StageRecipe
from .samples import ConversationDataset, read_entries

_LOGGED_POINTS = 100  # of a stage's loss curve


def steps_of(stage: StageRecipe, samples: int) -> int:
    """Optimiser steps of a stage in one process: the last incomplete batch of a pass is left out."""
    per_epoch = samples // stage.batch_size // stage.accumulation
    return max(1, ceil(per_epoch * stage.epochs))


def samples_of(data_file: Path) -> int:
    """Samples of a LLaVA-style JSON file."""
    return len(read_entries(data_file))


def train_stage(
    start: Path,
    stage: StageRecipe,
    data_folder: Path,
    output: Path,
    *,
    seed: int,
    force: bool = False,
    advance: Callable[[int], None] = lambda steps: None,
) -> list[float]:
    """Train one stage from the checkpoint `start` and write the checkpoint `output` in one step; returns the losses.

    Raises:
        DataError: the data cannot be read, or holds fewer samples than a batch.
        LacoError: the loss is not finite any more.
    """
    import transformers

    from laco_export.models import checkpoint

    from .parameter_groups import set_trainable
    from .trainer import DepthSampler, LossLog, StageTrainer, training_arguments

    loaded = checkpoint.load(start)
    model, processor = loaded.model, loaded.processor
    dataset = ConversationDataset(
        data_folder / stage.data, data_folder, processor, plain=stage.plain, max_length=stage.max_length
    )
    if processor.tiling:
        raise LacoError(
            f"checkpoint '{start}' tiles single pictures, and training on tiles is not built yet",
            allowed="a checkpoint without tiling",
        )
    if len(dataset) < stage.batch_size:
        raise LacoError(
            f"data file '{dataset.path}' does not fill one batch",
            given=f"{len(dataset)} samples, batch_size {stage.batch_size}",
        )
    transformers.set_seed(seed)
    set_trainable(model, stage.learning_rates)
    log = LossLog(advance)
    steps = steps_of(stage, len(dataset))
    with tempfile.TemporaryDirectory() as scratch:
        arguments = training_arguments(stage, Path(scratch), seed=seed, log_every=max(1, steps // _LOGGED_POINTS))
        trainer = StageTrainer(model, stage, dataset, arguments, callbacks=[log])
        trainer.remove_callback(transformers.PrinterCallback)
        if len(model.vision_model.compression.blocks) > 1:
            trainer.add_callback(DepthSampler(model.vision_model, seed))
        trainer.train()
    if not all(loss == loss and abs(loss) != float("inf") for loss in log.losses):
        raise LacoError("the loss is not finite any more", todo="lower the stage's learning_rates")
    model.config.untrained = [part for part in model.config.untrained if _GROUP_OF[part] not in stage.learning_rates]
    checkpoint.save(model.eval(), processor, output, force=force)
    return log.losses


_GROUP_OF = {"compressors": "compressor", "projector": "projector"}  # config.untrained -> parameter group
