"""What the stage ``distil`` would do, before it does it: for ``--dry-run``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .. import processes
from ..data.preview import preview
from ..memory import ForwardShape, MemoryEstimate, kept_activations, kept_bytes
from ..parameter_groups import parameters_by_group
from ..plan import longest_forward
from ..recipe import Recipe, StageRecipe, stage_seed
from .data import open_stage_pictures
from .pair import Distillation, LossWeights

if TYPE_CHECKING:
    from laco_export.models import LacoForConditionalGeneration, LacoProcessor
    from laco_export.models.vision import LacoVisionModel

Pair = tuple["LacoForConditionalGeneration", "LacoForConditionalGeneration"]
"""A teacher and a student by their shapes."""

_FP32 = 4  # bytes: master weights, gradients and optimiser states


def plan_distillation(
    recipe: Recipe, name: str, stage: StageRecipe, folder: Path, build: Callable[[], Pair], processor: LacoProcessor
) -> tuple[dict[str, Any], Any]:
    """The stage's part of a plan, and its first picture as Rich text.

    Args:
        build: makes teacher and student without reading weights.

    Raises:
        LacoError: the pictures cannot be read, do not fill a batch, or teacher and student do not go together.
    """
    pair = build()
    distillation = Distillation(*pair, stage.learning_rates)
    dataset, aside = open_stage_pictures(stage, processor, folder, seed=stage_seed(recipe.seed, name))
    steps = stage.steps(len(dataset))
    height, width = distillation.vision_model.grid
    shape = ForwardShape(stage.per_device_batch_size, height * width, stage.per_device_batch_size, 0)
    if stage.distillation.language_model:
        shape = longest_forward(stage, dataset)
    memory = estimate_distillation(build, stage, shape)
    return {
        "part": f"stage-{name}",
        "data": stage.data,
        "samples": len(dataset),
        "held_out": len(aside),
        "kinds": {"image": len(dataset)},
        "steps": steps,
        "global_batch_size": stage.global_batch_size,
        "per_device_batch_size": stage.per_device_batch_size,
        "accumulation": stage.accumulation(processes.join().num_processes),
        "estimated_tokens": steps * stage.global_batch_size * height * width,
        "parameters": trained_parameters(distillation),
        "learning_rates": dict(stage.learning_rates),
        "fitting_learning_rates": stage.fitting_rates(),
        "memory": {**asdict(memory), "total": memory.total, "forward": asdict(shape)},
    }, preview(dataset) if stage.distillation.language_model else _preview(dataset)


def trained_parameters(distillation: Distillation) -> dict[str, int]:
    """How many parameters of each group are trained; groups without any are left out."""
    groups = parameters_by_group(distillation.student)
    counts = {name: sum(p.numel() for p in group if p.requires_grad) for name, group in groups.items()}
    return {name: count for name, count in counts.items() if count}


def estimate_distillation(build: Callable[[], Pair], stage: StageRecipe, shape: ForwardShape) -> MemoryEstimate:
    """The memory of one process in a step of the stage, at the depth that keeps the most.

    Args:
        build: called where tensors have no content.
        shape: of a forward pass; its tokens count where the language model's predictions are compared.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    recipe = stage.distillation
    with FakeTensorMode():
        weights = LossWeights(blocks=recipe.blocks, language_model=recipe.language_model)
        distillation = Distillation(*build(), stage.learning_rates, weights).train()
        vision = distillation.vision_model
        of_teacher = distillation.teacher.parameters()
        parameters = {id(parameter): parameter for parameter in [*distillation.parameters(), *of_teacher]}.values()
        trained = sum(parameter.numel() for parameter in distillation.parameters() if parameter.requires_grad)
        size = vision.spec.image_size(vision.encoder.config)
        pixels = torch.zeros(shape.tiles, 3, *size)
        precision = stage.precision
        bytes_kept = lambda: kept_bytes(parameters, lambda: distillation(pixels), precision=precision)
        if recipe.language_model:
            bytes_kept = lambda: kept_activations(distillation.student, shape, precision=precision)
        activations = _most_kept(vision, bytes_kept)
        if stage.gradient_checkpointing:
            distillation.gradient_checkpointing_enable({"use_reentrant": False})
            inputs = _most_kept(vision, bytes_kept)
            # The blocks' inputs, and the activations of the one block that is being computed again.
            activations = inputs + max(0, activations - inputs) // vision.num_blocks
        return MemoryEstimate(
            weights=_FP32 * sum(parameter.numel() for parameter in parameters),
            gradients=_FP32 * trained,
            optimizer=2 * _FP32 * trained,
            activations=activations,
        )


def _most_kept(vision: LacoVisionModel, bytes_kept: Callable[[], int]) -> int:
    """The most of ``bytes_kept`` over the depths."""
    most = 0
    for path in vision.compression.paths:
        vision.path = path
        most = max(most, bytes_kept())
    return most


def _preview(dataset) -> Any:
    from rich.text import Text

    entry = dataset.entry(0)
    crops = dataset.encoder.least_area
    what = "whole" if crops == 1 else f"of each picture a random part of {crops:.0%} of its area and more"
    return Text(f"{entry.get('image') if isinstance(entry.get('image'), str) else entry.get('id')}: {what}")
