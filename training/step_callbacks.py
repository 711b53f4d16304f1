"""What happens around an optimiser step: the depth that it merges at is drawn, and progress is told of it."""

from __future__ import annotations

from collections.abc import Collection
from random import Random

from transformers import TrainerCallback

LEARNING_RATE = "learning_rate/"
"""In the log: before a group's name."""
LOOK = "look/"
"""In the log: before a field of :class:`.look.Look`."""


class DepthSampler(TrainerCallback):
    """Elastic depth: each optimiser step takes one of the checkpoint's paths of merges, drawn by seed and step.

    Every process draws the same path, and a resumed run the path that an uninterrupted one would have drawn.
    """

    def __init__(self, vision_model, seed: int):
        self.vision_model, self.seed = vision_model, seed

    def on_step_begin(self, args, state, control, **_) -> None:
        paths = self.vision_model.compression.paths
        self.vision_model.path = Random(f"{self.seed} depth {state.global_step}").choice(paths)

    def on_train_end(self, args, state, control, **_) -> None:
        self.vision_model.path = self.vision_model.compression.paths[0]


class StepProgress(TrainerCallback):
    """Tells a command's progress of each step, its loss and its learning rates; at once of the steps that a resumed run
    has behind it."""

    def __init__(self, advance):
        self.advance = advance
        self.worth: float | None = None  # of the last look

    def on_train_begin(self, args, state, control, **_) -> None:
        self.advance(state.global_step)

    def on_step_end(self, args, state, control, **_) -> None:
        self.advance(1)

    def on_log(self, args, state, control, logs=None, **_) -> None:
        rates = [value for name, value in (logs or {}).items() if name.startswith(LEARNING_RATE)]
        if rates and "loss" in logs:
            self.worth = logs.get(f"{LOOK}worth", self.worth)
            self.advance(0, note=step_note(logs["loss"], rates, self.worth))


def step_note(loss: float, learning_rates: Collection[float], worth: float | None = None) -> str:
    """``loss 2.345, picture worth 0.41 nats, learning rate 0.001``; of several rates the lowest and the highest.

    Args:
        worth: of the last look (:mod:`.look`), in nats a token.
    """
    lowest, highest = min(learning_rates), max(learning_rates)
    rates = f"rate {highest:.2g}" if lowest == highest else f"rates {lowest:.2g} to {highest:.2g}"
    picture = "" if worth is None else f"picture worth {worth:.2f} nats, "
    return f"loss {loss:.3f}, {picture}learning {rates}"
