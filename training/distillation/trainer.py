"""HF's Trainer for the stage ``distil``: pictures in place of conversations, and two phases."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from transformers import TrainerCallback

from ..parameter_groups import optimizer_groups
from ..trainer import StageTrainer, StepTotals
from .pair import Distillation
from .price import feature_prices, plain_values

PRICE = "price/"
"""In the log: before a depth and a field of :class:`.price.FeaturePrice`."""
PRICE_NAMES = ("relative_error", "cosine")
FIGURE = "distil/"
"""In the log: before a figure of :meth:`.pair.Distillation.forward`, of a step's own pictures."""


class DistillationTrainer(StageTrainer):
    """Trains a :class:`.pair.Distillation` on pictures.

    The loss of an optimiser step is the mean over the pictures of its global batch.

    Args:
        first_steps: optimiser steps in which the merge is trained alone.
        held_out: batches of ``pixel_values [B, 3, H, W]`` that the price is measured on.
    """

    model: Distillation

    def __init__(self, distillation: Distillation, *arguments, first_steps: int, held_out: Sequence[Tensor], **options):
        self.first_steps, self.held_out = first_steps, held_out
        super().__init__(distillation, *arguments, **options)
        distillation.teacher.to(self.args.device)
        self.add_callback(MergeFirst(distillation, first_steps))

    def prices(self) -> dict[str, dict]:
        """The price of each depth now, as plain values."""
        return plain_values(feature_prices(self.model, self.held_out, self.accelerator.autocast()))

    @property
    def curve(self) -> list[dict]:
        """The prices that were measured on the way: ``{"step", depth: {relative_error, cosine}}``."""
        curve = []
        for entry in self.state.log_history:
            prices: dict[str, dict] = {}
            for key, value in entry.items():
                if key.startswith(PRICE):
                    depth, _, name = key.removeprefix(PRICE).rpartition("/")
                    prices.setdefault(depth, {})[name] = value
            if prices:
                curve.append({"step": entry["step"], **prices})
        return curve

    def optimizer_groups(self) -> list[dict]:
        groups = optimizer_groups(self.model.student, self.stage.learning_rates, self.stage.weight_decay)
        return [
            {**group, "first_step": 0 if group["name"] == "compressor" else self.first_steps}
            for group in groups
            if group["params"]
        ]

    def tokens_in(self, batch: dict) -> int:
        """The teacher's, of all pictures."""
        height, width = self.model.vision_model.grid
        return len(batch["pixel_values"]) * height * width

    def completed(self, batch: dict) -> dict:
        return batch

    def measured(self, step: StepTotals) -> dict[str, float]:
        every = self.stage.distillation.price_every
        due = every and self.state.global_step % every == 0 and self.state.global_step < self.state.max_steps
        prices = self.prices() if due else {}
        return {
            **super().measured(step),
            **{f"{PRICE}{depth}/{name}": price[name] for depth, price in prices.items() for name in PRICE_NAMES},
        }

    def compute_loss(self, model, inputs, return_outputs=False, **_):
        values = model(**inputs)
        for name, value in values.items():
            if name != "loss":
                self.step_totals.figures.setdefault(f"{FIGURE}{name}", []).append(value.item())
        return (values["loss"], values) if return_outputs else values["loss"]


class MergeFirst(TrainerCallback):
    """Holds everything but the merges for the first steps; a resumed run is held as an uninterrupted one."""

    def __init__(self, distillation: Distillation, first_steps: int):
        self.distillation, self.first_steps = distillation, first_steps

    def on_step_begin(self, args, state, control, **_) -> None:
        self.distillation.hold_to_merge(state.global_step < self.first_steps)

    def on_train_end(self, args, state, control, **_) -> None:
        self.distillation.hold_to_merge(False)
