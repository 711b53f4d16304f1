"""HF's Trainer with the parts' own learning rates and their own cosine."""

from __future__ import annotations

from pathlib import Path
from random import Random

import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

from .optimizers import MuonWithAdamW, embedding_ids, split_matrices
from .parameter_groups import optimizer_groups
from .recipe import StageRecipe
from .samples import Collator, ConversationDataset
from .schedule import cosine_schedule


class StageTrainer(Trainer):
    """Trains the groups that a stage names; everything else (devices, accumulation, DDP, logging) is HF's.

    Args:
        stage: the stage's recipe; the model's frozen groups must be set before (`parameter_groups.set_trainable`).
    """

    def __init__(
        self, model, stage: StageRecipe, dataset: ConversationDataset, arguments: TrainingArguments, **options
    ):
        self.stage = stage
        collator = Collator(dataset.tokenizer.pad_token_id)
        super().__init__(model=model, args=arguments, train_dataset=dataset, data_collator=collator, **options)

    def compute_loss(self, model, inputs, **options):
        return super().compute_loss(model, {**inputs, "use_cache": False}, **options)

    def create_optimizer(self) -> torch.optim.Optimizer:
        if self.optimizer is None:
            groups = optimizer_groups(self.model, self.stage.learning_rates, self.stage.weight_decay)
            if self.stage.optimizer == "muon":
                embeddings = embedding_ids(self.model)
                groups = [part for group in groups for part in split_matrices(group, embeddings)]
                self.optimizer = MuonWithAdamW(groups, self.stage.weight_decay)
            else:
                kind, options = Trainer.get_optimizer_cls_and_kwargs(self.args, self.model)
                self.optimizer = kind(groups, **{name: value for name, value in options.items() if name != "lr"})
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None):
        if self.lr_scheduler is None:
            self.lr_scheduler = cosine_schedule(
                optimizer or self.optimizer,
                total_steps=num_training_steps,
                warmup_ratio=self.stage.warmup_ratio,
                min_learning_rate=self.stage.min_learning_rate,
            )
            self._created_lr_scheduler = True
        return self.lr_scheduler


class DepthSampler(TrainerCallback):
    """Elastic depth: each optimiser step merges at one of the checkpoint's depths, drawn by seed and step.

    Every process draws the same depth, and a resumed run the depth that an uninterrupted one would have drawn.
    """

    def __init__(self, vision_model, seed: int):
        self.vision_model, self.seed = vision_model, seed

    def on_step_begin(self, args, state, control, **_) -> None:
        blocks = self.vision_model.compression.blocks
        self.vision_model.block = Random(f"{self.seed} depth {state.global_step}").choice(blocks)

    def on_train_end(self, args, state, control, **_) -> None:
        self.vision_model.block = self.vision_model.compression.blocks[0]


class LossLog(TrainerCallback):
    """Keeps the mean loss of every logged span, and moves a progress bar."""

    def __init__(self, advance=lambda steps: None):
        self.losses: list[float] = []
        self.advance = advance

    def on_step_end(self, args, state, control, **_) -> None:
        self.advance(1)

    def on_log(self, args, state, control, logs=None, **_) -> None:
        if logs and "loss" in logs:
            self.losses.append(round(float(logs["loss"]), 4))


def training_arguments(stage: StageRecipe, scratch: Path, *, seed: int, log_every: int) -> TrainingArguments:
    """What HF's Trainer is told for one stage; learning rates and schedule are `StageTrainer`'s own.

    `scratch` stays empty: finished stages are saved as checkpoints by the caller.
    """
    return TrainingArguments(
        output_dir=str(scratch),
        per_device_train_batch_size=stage.batch_size,
        gradient_accumulation_steps=stage.accumulation,
        num_train_epochs=stage.epochs,
        learning_rate=max(stage.learning_rates.values()),  # for HF's own log; each group has its rate
        max_grad_norm=stage.max_grad_norm,
        bf16=stage.precision == "bf16",
        seed=seed,
        logging_steps=log_every,
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        log_level="error",
        remove_unused_columns=False,
        dataloader_num_workers=stage.workers,
        dataloader_pin_memory=torch.cuda.is_available(),
        dataloader_drop_last=True,
    )
