"""The keys of the stage ``distil`` that no other stage has."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING

from laco_export.errors import ConfigError, check_whole

if TYPE_CHECKING:
    from ..recipe import StageRecipe

_OF_OTHER_STAGES = ("plain", "tiling", "packed", "streaming", "keep_frozen_outputs")


@dataclass(frozen=True)
class DistillationRecipe:
    """What is compared, on which parts of the pictures, and when the later blocks join in.

    Attributes:
        merge_first: share of the steps in which the merge is trained alone; the other groups follow, with a warm-up and
            a cosine of their own.
        cosine: weight of 1 − cosine of the projected features, beside their relative error.
        blocks: weight of the relative errors of the blocks behind the merge; 0: not computed.
        language_model: weight of the divergence of the next token's distribution from the teacher's, on the answers of
            ``data``, which must then hold conversations; 0: the language model is not loaded.
        least_area: a random part of each picture is taken, of at least this share of its area; 1 takes it whole.
        flips: mirror every other picture, its text too.
        held_out: pictures that are not trained on and that the price is measured on, at most a tenth of all.
        price_every: optimiser steps between two measurements of the price; 0: before and after alone.
    """

    merge_first: float = 0.1
    cosine: float = 1.0
    blocks: float = 0.0
    language_model: float = 0.0
    least_area: float = 0.25
    flips: bool = False
    held_out: int = 64
    price_every: int = field(default=0, metadata={"machine": True})

    def __post_init__(self) -> None:
        if not 0 <= self.merge_first <= 1:
            raise ConfigError("merge_first must lie in [0, 1]", given=self.merge_first)
        if not 0 < self.least_area <= 1:
            raise ConfigError("least_area must lie in (0, 1]", given=self.least_area, allowed="1 takes pictures whole")
        for name in ("cosine", "blocks", "language_model"):
            if not 0 <= getattr(self, name) < inf:
                raise ConfigError(f"{name} must be at least 0 and finite", given=getattr(self, name))
        check_whole("held_out", self.held_out)
        check_whole("price_every", self.price_every, least=0)

    def check_stage_keys(self, stage: StageRecipe) -> None:
        """The stage's other keys go with this.

        Raises:
            ConfigError: a key that no stage that distils has, or groups that are not taught here.
        """
        if senseless := [name for name in _OF_OTHER_STAGES if getattr(stage, name)]:
            raise ConfigError(f"{senseless[0]} is no key of a stage that distils", todo=f"leave {senseless[0]} out")
        if not {"encoder", "compressor"} & set(stage.learning_rates):
            raise ConfigError(
                "learning_rates names nothing that distillation is for",
                given=", ".join(stage.learning_rates),
                allowed="compressor, encoder (its blocks behind the merge); projector and language_model beside them",
            )
        if "language_model" in stage.learning_rates and not self.language_model:
            raise ConfigError(
                "a language model is taught by its own predictions alone",
                given="learning_rates.language_model without distillation.language_model",
                todo="leave it out of learning_rates, or set distillation.language_model to a weight",
            )
