"""HF's Trainer with the parts' own learning rates, their own cosine, and errors that name the samples."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from math import isfinite
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import PrinterCallback, Trainer, TrainingArguments

from laco_export.errors import LacoError
from laco_export.machine import peak_memory
from laco_export.models.transformers_versions import checkpointing_arguments, event_folder

from . import processes
from .counted_positions import keep_counted_positions
from .look import Look, LookSums, add_batch
from .optimizers import MuonWithAdamW, embedding_ids, split_matrices
from .padding_picture import add_padding_picture
from .parameter_groups import optimizer_groups
from .recipe import StageRecipe
from .schedule import cosine_schedule
from .step_callbacks import LEARNING_RATE, LOOK

_ZIP_WRITER = ("PytorchStreamWriter", "inline_container")
_NAMED_SAMPLES = 32  # ids in an error message
_LOOKED_SAMPLES = 16  # of an optimiser step at most, about
_LOOK_FIELDS = ("worth", "rms_over_text", *(key.name for key in fields(Look)))


class TrainingError(LacoError):
    """Training cannot go on: out of memory, or a loss or gradient that is no number any more."""


@contextmanager
def naming_failed_writes(what: str) -> Iterator[None]:
    """Say what could not be written where a library's own error hides the disk's.

    Raises:
        TrainingError: safetensors or PyTorch could not write.
    """
    try:
        yield
    except (SafetensorError, RuntimeError) as error:
        # torch.save ends in a bare RuntimeError of its zip writer.
        if isinstance(error, RuntimeError) and not any(word in str(error) for word in _ZIP_WRITER):
            raise
        raise TrainingError(
            f"{what} cannot be written",
            given=" ".join(str(error).split())[:200],
            todo="free some space on that disk; what was complete before stands, and --resume goes on from it",
        ) from None


class StageTrainer(Trainer):
    """Trains the groups that a stage names; everything else (devices, accumulation, DDP, FSDP, saving) is HF's.

    The loss of an optimiser step is the mean over all tokens that count in the global batch, however many processes
    and forward passes it is dealt out to. It is logged after every step, unrounded.

    Args:
        stage: the stage's recipe; the model's frozen groups must be set before
            (:func:`.parameter_groups.set_trainable`).
        sampler: the order of the samples; None with a stream, which has its own.
        broken: keeps count of broken samples (:class:`.data.BrokenSamples`).
        image_tokens: tokens of one tile in the prompt.
    """

    def __init__(self, model, stage: StageRecipe, dataset, arguments: TrainingArguments, *, sampler, broken, **options):
        self.stage, self.sampler, self.broken = stage, sampler, broken
        super().__init__(model=model, args=arguments, train_dataset=dataset, **options)
        self.remove_callback(PrinterCallback)
        self._taken: deque = deque()  # the notes of the batches of the optimiser step that runs
        self.step_totals = StepTotals()
        self._looks_now = False

    @property
    def looks(self) -> list[dict]:
        """What was measured of the pictures so far: the step, the block that the merge stood after (0: none; ``6+18``
        of a path of several) and the fields of :class:`.look.Look`."""
        return [
            {
                "step": entry["step"],
                "block": self._block_of(entry),
                **{name: entry[f"{LOOK}{name}"] for name in _LOOK_FIELDS},
            }
            for entry in self.state.log_history
            if f"{LOOK}loss" in entry
        ]

    @property
    def losses(self) -> list[float]:
        """The loss of every optimiser step so far, those before a resume too."""
        return [entry["loss"] for entry in self.state.log_history if "loss" in entry]

    def _inner_training_loop(self, batch_size=None, args=None, **options):
        # HF takes the samples of a forward pass from the checkpoint that it resumes and the accumulation from the
        # recipe: where a resumed run changes per_device_batch_size, they would not make the global batch any more.
        try:
            return super()._inner_training_loop(batch_size=self.args.train_batch_size, args=args, **options)
        except (torch.OutOfMemoryError, RuntimeError) as error:  # the passes name their own samples
            if not _is_out_of_memory(error):
                raise
            raise TrainingError(
                f"out of memory at step {self.state.global_step + 1}, in the optimizer and not in a forward pass",
                given=f"{self.stage.optimizer} on {', '.join(self.stage.learning_rates)}",
                todo="shard the optimizer (FSDP2 or DeepSpeed), train fewer groups, or use a machine with more memory",
            ) from None

    def _save_checkpoint(self, model, trial):
        with naming_failed_writes(f"the checkpoint of step {self.state.global_step}"):
            super()._save_checkpoint(model, trial)

    def _get_train_sampler(self, train_dataset=None):
        return self.sampler

    def get_train_dataloader(self):
        if not self.stage.streaming:
            # All forward passes of an optimiser step are read before the first runs: they wait in main memory, and
            # each goes to the device when it is its turn.
            placement, self.accelerator.device_placement = self.accelerator.device_placement, False
            try:
                return super().get_train_dataloader()
            finally:
                self.accelerator.device_placement = placement
        # A stream deals itself out to the processes: accelerate must not do it again.
        return self.train_dataset.loader(
            self.stage.per_device_batch_size, workers=self.stage.workers, collator=self.data_collator
        )

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        self._taken.clear()
        self._looks_now = self._is_to_look()
        return super().get_batch_samples(map(self._take, epoch_iterator), num_batches, device)

    def _take(self, batch: dict) -> dict:
        notes = batch.pop("notes")
        self.broken.record(notes)
        if self.stage.streaming:
            self.train_dataset.consumed(notes)
        self._taken.append(notes)
        self.step_totals.add_batch(self.tokens_in(batch), len(notes.ids), notes.truncated)
        return self.completed(batch)

    def tokens_in(self, batch: dict) -> int:
        """Tokens that a forward pass computes, padding apart."""
        return int(batch["attention_mask"].sum()) if "attention_mask" in batch else batch["input_ids"].numel()

    def completed(self, batch: dict) -> dict:
        """A batch with all that the model must be given."""
        if "pixel_values" in batch:
            return batch
        return add_padding_picture(batch, self.accelerator.unwrap_model(self.model).config)

    def training_step(self, model, inputs, num_items_in_batch=None):
        ids = self._taken.popleft().ids
        self.step_totals.ids += ids
        self.step_totals.learning_rates = self.lr_scheduler.get_last_lr()
        try:
            if self._looks_now:
                self._look(model, inputs)
            loss = super().training_step(model, inputs, num_items_in_batch)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            raise self._out_of_memory(ids, inputs) from None
        self.step_totals.loss += (value := loss.item())
        if not isfinite(value):
            raise TrainingError(
                f"the loss of step {self.state.global_step + 1} is {value}",
                given=f"samples {_some(ids)}",
                todo="look at these samples, or lower the stage's learning_rates",
            )
        return loss

    def _is_to_look(self) -> bool:
        """Sharded weights are gathered by all processes at once, and each has pictures of its own to exchange or none:
        such a run is not looked at."""
        step, every = self.state.global_step, self.stage.look_every
        due = every > 0 and (step % every == 0 or step + 1 == self.state.max_steps)
        return due and not processes.shards_weights()

    def _look(self, model, inputs: dict) -> None:
        """Add this forward pass to what the optimiser step shows of its pictures, until it has enough samples."""
        with self.compute_loss_context_manager():
            inner = self.accelerator.unwrap_model(self.model)
            add_batch(self.step_totals.looked, model, self._prepare_inputs(inputs), unwrapped=inner)
        self._looks_now = self.step_totals.looked.samples < _LOOKED_SAMPLES

    def _out_of_memory(self, ids: list[str], inputs: dict) -> TrainingError:
        return TrainingError(
            f"out of memory at step {self.state.global_step + 1}",
            given=f"samples {_some(ids)}: {_shown_shape(inputs)}",
            todo="lower the stage's per_device_batch_size or max_length, or set gradient_checkpointing: true",
        )

    def compute_loss(self, model, inputs, **options):
        inputs = {**inputs, **keep_counted_positions(inputs["labels"]), "use_cache": False}
        return super().compute_loss(model, inputs, **options)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """HF's log of a step, with the unrounded loss, every group's learning rate, throughput and memory."""
        if "loss" in logs:
            step, self.step_totals = self.step_totals, StepTotals()
            if not isfinite(logs.get("grad_norm", 0.0)):
                raise TrainingError(
                    f"the gradient of step {self.state.global_step} is {logs['grad_norm']}",
                    given=f"samples {_some(step.ids)}",
                    todo="look at these samples, or lower the stage's learning_rates; the last checkpoint is sound",
                )
            logs = {"grad_norm": logs["grad_norm"], **self.measured(step)}
        super().log(logs, start_time)

    def measured(self, step: StepTotals) -> dict[str, float]:
        """For the log: what an optimiser step added up to in all processes."""
        totals = torch.tensor([step.loss, step.tokens, step.samples, step.truncated], dtype=torch.float64)
        if self.args.world_size > 1:
            device = self.args.device
            totals = self.accelerator.reduce(totals.to(device, torch.float32 if device.type == "mps" else None))
        loss, tokens, samples, truncated = totals.tolist()
        seconds = time.monotonic() - step.start
        groups = [group["name"] for group in self.optimizer.param_groups]
        peak = peak_device_memory()
        return {
            "loss": loss / self.args.world_size,
            "tokens": tokens,
            "tokens_per_second": tokens / seconds,
            "samples_per_second": samples / seconds,
            "truncated_samples": truncated,
            **({} if peak is None else {"peak_memory_gib": peak / 2**30}),
            **self.means_of(step.figures),
            **self._looked(step.looked),
            **{f"{LEARNING_RATE}{name}": rate for name, rate in zip(groups, step.learning_rates, strict=True)},
        }

    def means_of(self, figures: dict[str, list[float]]) -> dict[str, float]:
        """For the log: the mean of each figure over the step's forward passes in all processes, which have the same."""
        if not figures:
            return {}
        means = torch.tensor([sum(values) / len(values) for values in figures.values()], dtype=torch.float64)
        if self.args.world_size > 1:
            means = self.accelerator.reduce(means.to(self.args.device), reduction="mean")
        return dict(zip(figures, means.tolist(), strict=True))

    def _looked(self, looked: LookSums) -> dict[str, float]:
        look = looked.look()
        if look is None:
            return {}
        vision = self.accelerator.unwrap_model(self.model).vision_model
        where = {f"{LOOK}block": vision.block or 0}
        if vision.path is not None and len(vision.path.blocks) > 1:  # a log holds numbers: the path's place
            where[f"{LOOK}path"] = vision.compression.paths.index(vision.path)
        return {**where, **{f"{LOOK}{name}": getattr(look, name) for name in _LOOK_FIELDS}}

    def _block_of(self, entry: Mapping) -> int | str:
        """Where the merges of a logged look stood."""
        place = entry.get(f"{LOOK}path")
        if place is None:
            return entry[f"{LOOK}block"]
        path = self.accelerator.unwrap_model(self.model).vision_model.compression.paths[place]
        return "+".join(map(str, path.blocks))

    def optimizer_groups(self) -> list[dict]:
        """What the optimiser is made of, see :func:`.parameter_groups.optimizer_groups`."""
        return optimizer_groups(self.model, self.stage.learning_rates, self.stage.weight_decay)

    def create_optimizer(self) -> torch.optim.Optimizer:
        if self.optimizer is None:
            groups = self.optimizer_groups()
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


class StepTotals:
    """What one optimiser step of this process adds up to."""

    def __init__(self):
        self.loss, self.tokens, self.samples, self.truncated = 0.0, 0, 0, 0
        self.figures: dict[str, list[float]] = {}  # by name, one of each forward pass
        self.ids: list[str] = []
        self.learning_rates: list[float] = []
        self.looked = LookSums()
        self.start = time.monotonic()

    def add_batch(self, tokens: int, samples: int, truncated: int) -> None:
        self.tokens += tokens
        self.samples += samples
        self.truncated += truncated


def training_arguments(
    stage: StageRecipe,
    folder: Path,
    *,
    seed: int,
    steps: int,
    unused_parts: bool = False,
    tensorboard: Path | None = None,
) -> TrainingArguments:
    """What HF's Trainer is told for one stage; learning rates, schedule and order of the samples are the stage's own.

    Args:
        folder: for the checkpoints inside the stage.
        unused_parts: whether a step may leave parameters unused, for which DDP would wait.
        tensorboard: for TensorBoard's event files, where that package is installed.
    """
    # HF reads the precision of an earlier stage, or of the launcher, from this variable where its own flag is off.
    os.environ["ACCELERATE_MIXED_PRECISION"] = "no"
    world = processes.join().num_processes
    arguments = TrainingArguments(
        output_dir=str(folder),
        use_cpu=processes.on_cpu(),
        per_device_train_batch_size=stage.per_device_batch_size,
        gradient_accumulation_steps=stage.accumulation(world),
        max_steps=steps,
        learning_rate=max(stage.learning_rates.values()),  # each group has its own
        max_grad_norm=stage.max_grad_norm,
        bf16=stage.precision == "bf16",
        # not reentrant: works with frozen parts and with DDP
        **checkpointing_arguments(stage.gradient_checkpointing, use_reentrant=False),
        ddp_find_unused_parameters=unused_parts,
        seed=seed,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="steps" if stage.save_every else "no",
        save_steps=stage.save_every or 1,
        ignore_data_skip=stage.streaming,  # a stream is set to its place before it is read
        report_to=["tensorboard"] if tensorboard else [],
        **event_folder(tensorboard),
        disable_tqdm=True,
        log_level="error",
        remove_unused_columns=False,
        dataloader_num_workers=stage.workers,
        dataloader_pin_memory=torch.cuda.is_available(),
        dataloader_drop_last=True,
    )
    # Without a launcher HF would deal each batch out to all visible GPUs, and part tiles from their prompts.
    arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments


def peak_device_memory() -> int | None:
    """The most bytes this process has held: on its CUDA device, else in main memory; None where nobody counts them."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else peak_memory()


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _shown_shape(inputs: dict) -> str:
    rows = [f"{' x '.join(map(str, inputs['input_ids'].shape))} tokens"] if "input_ids" in inputs else []
    return ", ".join([*rows, f"{len(inputs['pixel_values']) if 'pixel_values' in inputs else 0} tiles"])


def _some(ids: list[str]) -> str:
    more = f" and {len(ids) - _NAMED_SAMPLES} more" if len(ids) > _NAMED_SAMPLES else ""
    return ", ".join(map(repr, ids[:_NAMED_SAMPLES])) + more
