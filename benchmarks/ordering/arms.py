"""The arms: the same pretrained encoder, projector and decoder, the same batches and steps, and a merge of their own.

Stage 1 trains the merge layer and the projector, stage 2 everything with the encoder at a fifth of the rate, by the
trainer's own parameter groups and schedule. An arm can be stopped at any step and goes on where it was.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from laco_export.models import LacoForConditionalGeneration
from laco_training.parameter_groups import optimizer_groups, set_trainable
from laco_training.schedule import cosine_schedule

from .pages import draw_pages
from .reader import BATCH, IMAGE, accuracy, answer, batch_of

_PART = 10  # of the drawing key; stages follow
FIRST_RATE, RATE, ENCODER_SHARE = 1e-3, 1e-4, 0.2
"""Peak learning rates of stage 1 and of stage 2, and the encoder's share of the latter, as in the paper.

The paper's are 1e-3, then 1e-5 and 2e-6 over 17,000 steps; in stage 2 a few hundred steps take ten times those.
"""
RATES = {"stage_1": FIRST_RATE, "stage_2": RATE, "stage_2_encoder": RATE * ENCODER_SHARE}
_MAX_GRAD_NORM, _WARMUP, _FLOOR = 1.0, 0.03, 1e-7


class Stage(NamedTuple):
    """Peak learning rates by group, and the share of an arm's steps."""

    name: str
    steps: int
    rates: dict[str, float]


@dataclass(frozen=True)
class Arm:
    """One model that is compared.

    Attributes:
        method, at: the merge.
        group: what it is compared in.
        budget: how many times the others' steps it gets.
        slow_merge: the merge layer never learns faster than the encoder does in stage 2.
        scaled: the merge layer's output starts with the root mean square of its input.
    """

    method: str
    at: str
    group: str
    budget: int = 1
    slow_merge: bool = False
    scaled: bool = False

    @property
    def exploratory(self) -> bool:
        """Outside the verdict, and run on demand."""
        return self.slow_merge or self.scaled

    @property
    def name(self) -> str:
        more = f", {self.budget}x steps" if self.budget > 1 else ""
        return f"{self.method}@{self.at}{more}{', slow merge' * self.slow_merge}{', scaled start' * self.scaled}"

    @property
    def file(self) -> str:
        more = f"-{self.budget}x" if self.budget > 1 else ""
        return f"{self.method}-{self.at.replace('/', '_')}{more}{'-slow' * self.slow_merge}{'-scaled' * self.scaled}"


COMPRESSORS = ("laco", "pixel_shuffle", "ldpv2", "token_packer")  # Table 1
DEPTHS = ("1", "1/2", "1/4", "1/6", "1/12")  # Table 8
ARMS = (
    *(Arm(method, "1/4", "compressors") for method in COMPRESSORS),
    *(Arm("laco", depth, "depths") for depth in DEPTHS if depth != "1/4"),
    Arm("average_pool", "1/4", "controls"),
    Arm("laco_misaligned", "1/4", "controls"),
    Arm("pixel_shuffle", "1/4", "controls", budget=4),
    Arm("pixel_shuffle", "1/4", "exploratory", scaled=True),
    *(Arm(method, "1/4", "exploratory", slow_merge=True) for method in COMPRESSORS),
)


def stages_of(arm: Arm, stage_1_steps: int, stage_2_steps: int) -> tuple[Stage, Stage]:
    """The two stages of an arm, at ``FIRST_RATE``, ``RATE`` and a fifth of it for the encoder."""
    encoder = RATE * ENCODER_SHARE
    merge = (encoder, encoder) if arm.slow_merge else (FIRST_RATE, RATE)
    first = Stage("1", stage_1_steps * arm.budget, {"compressor": merge[0], "projector": FIRST_RATE})
    rates = {"encoder": encoder, "compressor": merge[1], "projector": RATE, "language_model": RATE}
    return first, Stage("2", stage_2_steps * arm.budget, rates)


def new_arm(reader: LacoForConditionalGeneration, arm: Arm, seed: int) -> LacoForConditionalGeneration:
    """The pretrained parts with a fresh merge layer between the encoder's blocks.

    The projector starts as pretrained: in the paper it is fresh, and with a frozen decoder of this size all arms would
    first spend their steps on learning its language again.
    """
    torch.manual_seed(seed)
    encoder, decoder = (copy.deepcopy(part) for part in (reader.vision_model.encoder, reader.language_model))
    model = LacoForConditionalGeneration.from_parts(
        encoder, decoder, image_token_id=IMAGE, method=arm.method, at=arm.at
    )
    model.projector.load_state_dict(reader.projector.state_dict())
    model.to(reader.device).train()
    if arm.scaled:
        _match_scale(model, seed)
    return model


def _match_scale(model: LacoForConditionalGeneration, seed: int) -> None:
    """Scale the last Linear of pixel-shuffle's MLP: fresh, it is hundreds of times quieter than the blocks are."""
    (compressor,) = model.vision_model.compressors.values()
    before, after = loudness(model, seed)
    with torch.no_grad():
        for parameter in compressor.mlp.linear_2.parameters():
            parameter.mul_(before / after)


@torch.no_grad()
def loudness(model: LacoForConditionalGeneration, seed: int) -> tuple[float, float]:
    """Root mean square of what goes into an arm's merge layer and of what comes out of it, on a batch of pages."""
    (compressor,) = model.vision_model.compressors.values()
    sizes: list[float] = []
    hook = compressor.register_forward_hook(
        lambda _, inputs, output: sizes.extend(tensor.square().mean().sqrt().item() for tensor in (*inputs, output))
    )
    model.vision_model(draw_pages(BATCH, seed, _PART)[0].to(model.device))
    hook.remove()
    return sizes[0], sizes[1]


class ArmTraining:
    """One arm on its way through both stages.

    Args:
        state_file: where it stands; loaded if there, written by ``save``.
    """

    def __init__(self, model: LacoForConditionalGeneration, stages: tuple[Stage, ...], seed: int, state_file: Path):
        self.model, self.stages, self.seed, self.state_file = model, stages, seed, state_file
        self.curve: list[dict] = []
        self.losses: list[float] = []
        self.position, self.done = 0, 0  # of the stage, and its steps behind us
        state = torch.load(state_file, weights_only=True, map_location="cpu") if state_file.exists() else None
        if state:
            self.position, self.done = state["position"], state["done"]
            self.curve, self.losses = state["curve"], state["losses"]
            model.load_state_dict(state["model"])
        self._enter_stage()
        if state:
            self.optimizer.load_state_dict(state["optimizer"])
            self.schedule.load_state_dict(state["schedule"])

    def _enter_stage(self) -> None:
        stage = self.stages[self.position]
        set_trainable(self.model, stage.rates)
        groups = [group for group in optimizer_groups(self.model, stage.rates, 0.0) if group["params"]]
        self.optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
        self.schedule = cosine_schedule(
            self.optimizer, total_steps=stage.steps, warmup_ratio=_WARMUP, min_learning_rate=_FLOOR
        )

    def save(self) -> None:
        partial = self.state_file.with_suffix(".part")
        torch.save(
            {
                "position": self.position,
                "done": self.done,
                "curve": self.curve,
                "losses": self.losses,
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
            },
            partial,
        )
        os.replace(partial, self.state_file)

    def run(self, measure_every: int, advance: Callable[[], bool]) -> bool:
        """Train to the end, measuring the accuracy on the way; False where ``advance`` has said to stop."""
        while True:
            stage = self.stages[self.position]
            while self.done < stage.steps:
                self._step(stage)
                if self.done % measure_every == 0 or self.done == stage.steps:
                    reads = accuracy(self.model, self.seed)
                    self.curve.append({"stage": stage.name, "step": self.done, "accuracy": reads})
                if not advance():
                    self.save()
                    return False
            if self.position + 1 == len(self.stages):
                return True
            self.position, self.done = self.position + 1, 0
            self._enter_stage()

    def _step(self, stage: Stage) -> None:
        pages = draw_pages(BATCH, self.seed, _PART + self.position, self.done)
        loss = answer(self.model, batch_of(*pages, self.model.tokens_per_image)).loss
        loss.backward()
        nn.utils.clip_grad_norm_([p for g in self.optimizer.param_groups for p in g["params"]], _MAX_GRAD_NORM)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        self.done += 1
        self.losses.append(loss.item())
