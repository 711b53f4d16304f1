"""One stage: from the checkpoint that the stage before it left to the next, resumable at its own checkpoints."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from laco_export.errors import ConfigError, UsageError
from laco_export.layout_rules import DEFAULT_TOKEN_LAYOUT

from . import processes
from .data.llava_next import LIKE_LLAVA_NEXT
from .recipe import StageRecipe
from .stage_data import identity_of, load_position, open_stage_data, sampler_of

if TYPE_CHECKING:
    from laco_export.models import LacoConfig, LacoForConditionalGeneration, LacoProcessor
    from laco_export.models.checkpoint import Checkpoint

STARTED_FROM = "started_from.json"
"""In a stage's checkpoint: the SHA-256 of the one that it was trained from."""

LOOKS = "looks.json"
"""In a stage's checkpoint: what its pictures were worth while it was trained (:mod:`.look`), and at its end."""
FROZEN_OUTPUTS = "frozen-outputs"
"""In a run's folder: what frozen blocks gave of its pictures (:mod:`.frozen_outputs`)."""
_AT_THE_END = 1 / 4  # of a stage's looks are joined into the one that its end is judged by

Shown = Callable[[int], AbstractContextManager[Callable[..., None]]]
"""Opens a progress bar of so many steps."""


def unshown(steps: int) -> AbstractContextManager[Callable[..., None]]:
    """No progress bar."""
    return nullcontext(lambda *_, **__: None)


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
    frozen_outputs: Path | None = None,
    steps: int | None = None,
    prepare: Callable[[Checkpoint], None] = lambda loaded: None,
    shown: Shown = unshown,
) -> list[float]:
    """Train one stage from the checkpoint ``start`` and write the checkpoint ``output`` in one step.

    With ``stage.save_every`` the stage leaves checkpoints in ``<output>-progress``, which goes when ``output`` stands.

    Args:
        resume: go on from the last of them; the losses are those that an uninterrupted run would have had.
        tensorboard: folder for metrics.
        record: the resolved recipe, stored with the checkpoint as ``recipe.yaml``.
        frozen_outputs: where a stage that keeps them puts the outputs of frozen blocks; default: beside ``output``.
        steps: optimiser steps in place of the stage's epochs.
        prepare: called with the loaded checkpoint before anything else, to refuse it or to change how it computes.
        shown: opens a progress bar of so many steps.

    Returns:
        the loss of every optimiser step.

    Raises:
        DataError: the data cannot be read, or holds more broken samples than allowed.
        ConfigError: fewer samples than a global batch, one that the processes cannot share, or a ``max_length`` beyond
            the language model's context.
        UsageError: the stage was interrupted, and neither ``resume`` nor ``force`` was given, or its start or its data
            were changed since then.
        OutputExistsError: ``output`` holds something that is no checkpoint; found before anything is trained.
        TrainingError: out of memory, or the loss is not finite any more.
    """
    from laco_export.checkpoint_files import refuse_to_replace_non_checkpoint
    from laco_export.console import say

    from .frozen_outputs import keep_frozen_outputs
    from .step_callbacks import StepProgress

    processes.run_on_main(lambda: refuse_to_replace_non_checkpoint(output))
    folder = progress_folder(output)
    resumed = decide_resumption(folder, resume=resume, force=force)
    loaded = _load(start, stage, seed, prepare)
    if stage.keep_frozen_outputs:
        keep_frozen_outputs(loaded.model, frozen_outputs or output.parent / FROZEN_OUTPUTS)
    trainer = _make_trainer(loaded, stage, data_folder, folder, seed=seed, steps=steps, tensorboard=tensorboard)
    keep_checkpoints(
        trainer, {"start": loaded.sha256, "data": identity_of(trainer.train_dataset, data_folder)}, resumed
    )
    with shown(trainer.args.max_steps) as advance:
        trainer.add_callback(StepProgress(advance))
        trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
    loaded.model.vision_model.keeper = None
    if processes.is_main():
        for line in trainer.broken.lines():
            say(line)
    files = {
        STARTED_FROM: json.dumps({"sha256": loaded.sha256}) + "\n",
        **({"recipe.yaml": record} if record else {}),
        **({LOOKS: looks_record(trainer.looks)} if trainer.looks else {}),
    }
    _save(trainer, loaded, stage, output, files=files, force=force)
    return trainer.losses


def looks_record(looks: list[dict]) -> str:
    """The content of :data:`LOOKS`: ``looks`` by step, and ``at_the_end`` the last quarter of those at each block that
    a merge stands after, joined."""
    from .look import joined_look, looks_by_block

    ends = {}
    for block, own in looks_by_block(looks).items():
        end = joined_look(own[-max(1, round(len(own) * _AT_THE_END)) :])
        ends[f"block {block}"] = {**end.to_dict(), "verdict": end.verdict()}
    return json.dumps({"at_the_end": ends, "looks": looks}, indent=1) + "\n"


def check_context(config: LacoConfig, stage: StageRecipe) -> None:
    """The language model has positions for the stage's longest sample.

    Raises:
        ConfigError: it has fewer.
    """
    context = config.text_config.max_position_embeddings
    if stage.max_length > context:
        raise ConfigError(
            "max_length is beyond the language model's context",
            given=stage.max_length,
            allowed=f"at most {context} (its max_position_embeddings)",
            todo="lower the stage's max_length",
        )


def check_elastic(config: LacoConfig) -> None:
    """Conversations are laid out once, so every depth that a step may draw gives a picture the same tokens.

    Raises:
        ConfigError: they do not.
    """
    grids = config.token_grids
    if len(set(grids.values())) > 1:
        raise ConfigError(
            "the depths of this checkpoint do not leave a picture the same tokens",
            given=", ".join(f"{depth} {height} x {width}" for depth, (height, width) in grids.items()),
            allowed="ratios with the same product: with depths 1/2 and 1/4+3/4, ratios 4 and 2+2",
            todo="give one ratio for each path, or train a checkpoint for each; the stage distil takes them together",
        )


def prepare_tiling(model: LacoForConditionalGeneration, processor: LacoProcessor, stage: StageRecipe) -> None:
    """Let the model and its processor tile single pictures as the stage says.

    A stage of one tile leaves the tiling of a checkpoint as it is: it prepares its own samples untiled. With ``like:
    llava-next`` a model of this project's own layout gets LLaVA-OneVision's: squares, and newlines at pictures' ends.
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
    if stage.like == LIKE_LLAVA_NEXT and model.config.token_layout == DEFAULT_TOKEN_LAYOUT:
        model.config.token_layout = processor.token_layout = "llava_onevision"


def progress_folder(output: Path) -> Path:
    """Where a stage leaves checkpoints to be resumed from, until ``output`` stands."""
    return output.parent / f"{output.name}-progress"


def decide_resumption(folder: Path, *, resume: bool, force: bool) -> Path | None:
    """The checkpoint inside the stage to go on from, as the main process sees it; ``force`` clears it away. Where there
    is none to be resumed, that is said."""
    from laco_export.console import say

    from .resuming import last_complete

    resumable = processes.agree(last_complete(folder))
    if resumable and resume:
        return resumable
    if resumable and not force:
        raise UsageError(
            f"this stage was interrupted; what it had done stands in '{folder}'",
            todo="add --resume to go on from there, or --force to start the stage again",
        )
    if processes.is_main():
        if resume:
            say(f"--resume: '{folder}' holds no checkpoint to go on from, so the stage starts at its beginning")
        shutil.rmtree(folder, ignore_errors=True)
        for log in (broken_log(folder), odd_log(folder)):
            log.unlink(missing_ok=True)
    processes.wait()
    return None


def _load(start: Path, stage: StageRecipe, seed: int, prepare: Callable[[Checkpoint], None]) -> Checkpoint:
    """The checkpoint that the stage starts from, seeded, tiled and frozen as the stage says."""
    import transformers
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    from laco_export.models import checkpoint

    from .parameter_groups import set_trainable

    unset_hf_deepspeed_config()  # the stage before left ZeRO-3's: models would be built from empty shards
    loaded = checkpoint.load(start)
    check_context(loaded.model.config, stage)
    check_elastic(loaded.model.config)
    prepare(loaded)
    transformers.set_seed(seed)
    prepare_tiling(loaded.model, loaded.processor, stage)
    set_trainable(loaded.model, stage.learning_rates)
    return loaded


def _make_trainer(
    loaded: Checkpoint,
    stage: StageRecipe,
    data_folder: Path,
    folder: Path,
    *,
    seed: int,
    steps: int | None,
    tensorboard: Path | None,
):
    from .data import BrokenSamples, Collator, OddSamples
    from .step_callbacks import DepthSampler
    from .trainer import StageTrainer, training_arguments

    dataset = open_stage_data(stage, loaded.processor, data_folder, seed=seed)
    of_epochs = stage.steps(len(dataset))
    trainer = StageTrainer(
        loaded.model,
        stage,
        dataset,
        training_arguments(
            stage,
            folder,
            seed=seed,
            steps=steps or of_epochs,
            unused_parts=may_leave_unused(loaded.model),
            tensorboard=tensorboard,
        ),
        sampler=sampler_of(stage, dataset, seed=seed),
        broken=BrokenSamples(
            broken_log(folder), limit=stage.max_broken, total=len(dataset), odd=OddSamples(odd_log(folder))
        ),
        data_collator=Collator(padding_id(loaded.processor), packed=stage.packed),
    )
    if len(loaded.model.vision_model.compression.paths) > 1:
        trainer.add_callback(DepthSampler(loaded.model.vision_model, seed))
    return trainer


@contextmanager
def open_frozen_stage(
    model: LacoForConditionalGeneration,
    processor: LacoProcessor,
    stage: StageRecipe,
    data_folder: Path,
    frozen_outputs: Path,
    *,
    seed: int,
) -> Iterator:
    """A stage's samples by index, and while the block runs a model that computes as the stage will: in its precision,
    and with the outputs of frozen blocks kept where the stage keeps them."""
    import torch

    from .frozen_outputs import keep_frozen_outputs
    from .parameter_groups import set_trainable

    dataset = open_stage_data(replace(stage, streaming=False), processor, data_folder, seed=seed)
    set_trainable(model, stage.learning_rates)
    if stage.keep_frozen_outputs:
        keep_frozen_outputs(model, frozen_outputs)
    try:
        with torch.autocast(model.device.type, torch.bfloat16, enabled=stage.precision == "bf16"):
            yield dataset
    finally:
        model.vision_model.keeper = None
        model.requires_grad_(True)


def padding_id(processor: LacoProcessor) -> int:
    """What fills the rows behind their samples, masked; checkpoints may name no padding token."""
    tokenizer, end = processor.tokenizer, processor.chat_format.answer_end
    return tokenizer.convert_tokens_to_ids(end) if tokenizer.pad_token_id is None else tokenizer.pad_token_id


def keep_checkpoints(trainer, origin: dict, resumed: Path | None) -> None:
    """Let the stage be resumed from its own checkpoints, and go to its place where it is resumed from one.

    Args:
        origin: what the stage is made from, see :func:`.resuming.check_origin`.
    """
    from laco_export.weight_files import read_json

    from .resuming import COMPLETE_MARK, CheckpointKeeper, check_origin

    trainer.add_callback(CheckpointKeeper(trainer.train_dataset, origin))
    if resumed:
        check_origin(read_json(resumed / COMPLETE_MARK), origin, where=resumed)
        load_position(trainer.train_dataset, resumed)


def broken_log(folder: Path) -> Path:
    """Beside the stage's folders, so that it stays when they go."""
    return folder.with_name(folder.name.removesuffix("-progress") + "-broken-samples.jsonl")


def odd_log(folder: Path) -> Path:
    """Beside the log of the broken ones."""
    return folder.with_name(folder.name.removesuffix("-progress") + "-odd-samples.jsonl")


def may_leave_unused(model) -> bool:
    """Whether a step may use only some of the parameters: one of several merge layers, no tiled picture, or an encoder
    whose last part the features do not pass."""
    vision = model.vision_model
    return len(vision.compression.paths) > 1 or model.image_newline is not None or vision.final_norm is None


def _save(trainer, loaded: Checkpoint, stage: StageRecipe, output: Path, *, files: dict[str, str], force: bool) -> None:
    """Write the trained checkpoint; all processes take part, because FSDP and DeepSpeed gather the weights from all."""
    from laco_export.models import checkpoint

    from .trainer import naming_failed_writes

    model, weights = loaded.model, trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if processes.is_main():
        model.config.untrained = [part for part in model.config.untrained if not trains(stage, part)]
        with naming_failed_writes(f"the checkpoint '{output}'"):
            checkpoint.save(model.eval(), loaded.processor, output, force=force, state_dict=weights, files=files)
        shutil.rmtree(trainer.args.output_dir, ignore_errors=True)
    processes.wait()


def trains(stage: StageRecipe, part: str) -> bool:
    """Whether a stage trains a part that ``config.untrained`` may name."""
    group = {"compressors": "compressor", "projector": "projector", "image_newline": "projector"}[part]
    # Without tiles no row ends, and the newline gets no gradient.
    return group in stage.learning_rates and (part != "image_newline" or stage.tiling is not None)
