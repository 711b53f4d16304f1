"""What a recipe would do, before it does it: steps, tokens, trained parameters, memory, and a sample to look at.

Weights are neither read nor written: the model is built by its shapes, and the data is opened as training opens it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laco_export.errors import ConfigError, LacoError

from . import processes
from .recipe import GROUPS, Recipe, StageRecipe, stage_seed
from .refusals import check_recipe
from .stage_data import open_stage_data
from .stages import check_context, prepare_tiling

if TYPE_CHECKING:
    from laco_export.models import LacoForConditionalGeneration, LacoProcessor
    from laco_export.models.vocabulary import ReadyVocabulary

_MEASURED_SAMPLES = 2000  # whose estimated lengths decide which is the longest
_DRAWN = 24  # samples of each kind that are drawn to look at, where a recipe draws its own


@dataclass(frozen=True)
class Plan:
    """A plan as plain values (for ``--json``), and each stage's first sample as Rich text."""

    values: dict[str, Any]
    previews: dict[str, Any]


def make_plan(recipe: Recipe, *, only: str | None = None) -> Plan:
    """The plan of a recipe, or of its stage ``only``.

    Raises:
        LacoError: a folder or data file that the recipe names cannot be read, or a batch cannot be shared.
    """
    check_recipe(recipe, only=only, weights=False)
    model = shapes_of(recipe)
    compression = model.config.compression_config
    values: dict[str, Any] = {
        "recipe": recipe.name,
        "method": compression.method,
        "merge": dict(zip(compression.depths, compression.blocks, strict=True)),
        "tokens_per_tile": model.tokens_per_image,
        "processes": processes.count(),
        "parts": [],
    }
    previews = {}
    if recipe.tiny and only is None:
        values["parts"] += _tiny_parts(recipe, count_parameters(model))
    with _data_folder(recipe) as folder:
        for name, stage in recipe.ordered_stages():
            if only in (None, name):
                try:
                    part, previews[f"stage-{name}"] = _stage_plan(recipe, name, stage, folder)
                except LacoError as error:
                    raise type(error)(
                        f"stages.{name}: {error.failed}", given=error.given, allowed=error.allowed, todo=error.todo
                    ) from None
                values["parts"].append(part)
    return Plan(values, previews)


def _stage_plan(recipe: Recipe, name: str, stage: StageRecipe, folder: Path) -> tuple[dict, Any]:
    from .data.preview import preview
    from .memory import estimate_memory

    model = shapes_of(recipe)
    processor = _processor(recipe, model)
    if stage.distillation:
        from .distillation.plan import plan_distillation

        return plan_distillation(recipe, name, stage, folder, lambda: _pair(recipe), processor)
    check_context(model.config, stage)
    prepare_tiling(model, processor, stage)
    parameters = count_parameters(model)  # with the newline of a stage that tiles
    if "://" in stage.data:
        raise ConfigError("a dry run looks into data on this machine only", given=f"data: {stage.data}")
    dataset = open_stage_data(replace(stage, streaming=False), processor, folder, seed=stage_seed(recipe.seed, name))
    samples = recipe.tiny.data.samples_in(stage.data) if recipe.tiny else len(dataset)
    counts = dataset.counts()
    steps = stage.steps(samples)
    used = steps * stage.global_batch_size
    shape = longest_forward(stage, dataset)
    memory = estimate_memory(lambda: _with_tiling(shapes_of(recipe, device=None), stage), stage, shape)
    part = {
        "part": f"stage-{name}",
        "data": stage.data,
        "samples": samples,
        "kinds": counts["kinds"],
        "steps": steps,
        "global_batch_size": stage.global_batch_size,
        "per_device_batch_size": stage.per_device_batch_size,
        "accumulation": stage.accumulation(processes.count()),
        "estimated_tokens": round(counts["estimated_tokens"] / len(dataset) * used),
        "parameters": {group: parameters[group] for group in GROUPS if group in stage.learning_rates},
        "learning_rates": dict(stage.learning_rates),
        "fitting_learning_rates": stage.fitting_rates(),
        "memory": {**asdict(memory), "total": memory.total, "forward": asdict(shape)},
    }
    return part, preview(dataset)


def longest_forward(stage: StageRecipe, dataset):
    """A forward pass of as many samples as a process takes, all like the longest of a part of the data."""
    import numpy as np

    from .data import IGNORED, DataError
    from .data.broken import named
    from .memory import ForwardShape

    spread = np.linspace(0, len(dataset) - 1, min(len(dataset), _MEASURED_SAMPLES)).astype(int)
    sample = dataset[int(spread[np.argmax(dataset.lengths(spread))])]
    if "input_ids" not in sample:
        broken = [asdict(tried) for tried in sample["notes"].broken]
        raise DataError(
            f"none of the {len(broken)} samples that were tried can be used",
            given=named(broken),
            todo="check data, images and data_folder in the recipe",
        )
    rows, tokens = stage.per_device_batch_size, len(sample["input_ids"])
    counted = int((sample["labels"] != IGNORED).sum())
    tiles = rows * (len(sample["pixel_values"]) if "pixel_values" in sample else 0)
    return (
        ForwardShape(1, rows * tokens, tiles, rows * counted)
        if stage.packed
        else ForwardShape(rows, tokens, tiles, counted)
    )


def count_parameters(model: LacoForConditionalGeneration) -> dict[str, int]:
    """Parameters of each group."""
    from .parameter_groups import parameters_by_group

    return {name: sum(p.numel() for p in group) for name, group in parameters_by_group(model).items()}


def shapes_of(recipe: Recipe, *, device: str | None = "meta") -> LacoForConditionalGeneration:
    """The recipe's model by its configurations alone.

    Args:
        device: where its tensors are; None leaves that to the caller's tensor mode.
    """
    import torch

    from laco_export.models import LacoForConditionalGeneration

    if recipe.model.checkpoint:
        return _pair(recipe, device)[1]
    with torch.device(device) if device else torch.device("cpu"):
        encoder, language_model = _empty_parts(recipe)
        return LacoForConditionalGeneration.from_parts(
            encoder, language_model, image_token_id=0, **recipe.model.options(), **recipe.compression.options()
        )


def _pair(recipe: Recipe, device: str | None = None) -> tuple:
    """The recipe's checkpoint by its shapes, and with the recipe's merges where it has none."""
    import torch

    from laco_export.models import LacoForConditionalGeneration, checkpoint
    from laco_export.models.merging import merge_inside

    from .checkpoint_start import check_merges

    config = checkpoint.read_config(Path(recipe.model.checkpoint))
    check_merges(config.compression_config, recipe.compression)
    with torch.device(device) if device else torch.device("cpu"):
        model = LacoForConditionalGeneration(config)
        options = recipe.compression.options()
        if options.pop("method") is None or config.compression_config.method is not None:
            return model, model
        return model, merge_inside(model, options.pop("at"), **options)


def _with_tiling(model: LacoForConditionalGeneration, stage: StageRecipe) -> LacoForConditionalGeneration:
    if stage.tiling:
        model.enable_tiling(stage.tiling.for_tile(model.vision_model.spec.image_size(model.config.vision_config)[0]))
    return model


def _empty_parts(recipe: Recipe) -> tuple:
    """The encoder and the LLM that the recipe starts from, by their configurations alone."""
    if recipe.tiny:
        from transformers import Aimv2VisionModel, Qwen2ForCausalLM

        from .tiny.encoder_pretraining import encoder_config
        from .tiny.language_pretraining import language_config
        from .tiny.tokenizer import VOCAB_SIZE

        start = recipe.tiny
        encoder = Aimv2VisionModel(encoder_config(start.encoder))
        return encoder, Qwen2ForCausalLM(language_config(start.language_model, VOCAB_SIZE))
    from transformers import AutoModelForCausalLM

    from laco_export import weight_files
    from laco_export.models.encoders.loading import recognise
    from laco_export.models.language_models import read_language_config

    encoder, language_model = Path(recipe.model.encoder), Path(recipe.model.language_model)
    spec, config, _ = recognise(encoder, weight_files.read_json(encoder / "config.json"))
    language_config = read_language_config(language_model)
    language_config.vocab_size = _vocabulary(language_model).rows
    return spec.model_class()(config), AutoModelForCausalLM.from_config(language_config)


def _processor(recipe: Recipe, model: LacoForConditionalGeneration) -> LacoProcessor:
    from laco_export.models import LacoProcessor

    if recipe.model.checkpoint:
        return LacoProcessor.from_pretrained(recipe.model.checkpoint).fitted_to(model)
    if recipe.tiny:
        from .tiny.tokenizer import train_tokenizer

        return LacoProcessor.for_model(model, train_tokenizer())
    vocabulary = _vocabulary(Path(recipe.model.language_model))
    return LacoProcessor.for_model(model, vocabulary.tokenizer, chat_format=vocabulary.chat_format)


@cache
def _vocabulary(language_model: Path) -> ReadyVocabulary:
    """What training makes of the language model's tokenizer; a plan asks several times."""
    from laco_export.models.language_models import read_language_config, read_vocabulary

    return read_vocabulary(language_model, read_language_config(language_model))


@contextmanager
def _data_folder(recipe: Recipe) -> Iterator[Path]:
    """The recipe's data; where it draws its own, a few samples drawn for this."""
    if not recipe.tiny:
        yield Path(recipe.data_folder)
        return
    from .tiny.dataset import write_data

    few = dict.fromkeys(("pages", "pictures", "texts", "captions", "recaptions", "single_image", "one_vision"), _DRAWN)
    with tempfile.TemporaryDirectory() as scratch:
        write_data(Path(scratch), replace(recipe.tiny.data, **few, held_out=6), seed=recipe.seed)
        yield Path(scratch)


def _tiny_parts(recipe: Recipe, parameters: dict[str, int]) -> list[dict]:
    """What comes before stage 1 of a recipe that draws its own data."""
    start = recipe.tiny
    sizes = start.data
    parts: list[dict] = [
        {"part": "data", "samples": sizes.held_out + sizes.pages + sizes.pictures, "data": "drawn pictures"}
    ]
    for group, part, data, samples in (
        ("encoder", start.encoder, "regions.json", sizes.pages + sizes.pictures),
        ("language_model", start.language_model, "texts.json", sizes.texts),
    ):
        parts.append(
            {
                "part": f"stage-0/{'llm' if group == 'language_model' else group}",
                "data": data,
                "samples": samples,
                "steps": part.steps,
                "global_batch_size": part.batch_size,
                "parameters": {group: parameters[group]},
                "learning_rates": {"matrices": part.muon_learning_rate, "others": part.learning_rate},
            }
        )
    return parts
