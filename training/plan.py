"""What a recipe would do, before it does it: stages, steps, trained parameters, learning rates, data."""

from __future__ import annotations

from pathlib import Path

from .recipe import GROUPS, Recipe, StageRecipe
from .stages import samples_of, steps_of


def make_plan(recipe: Recipe, *, only: str | None = None) -> dict:
    """The plan as plain values (for `--json`); builds the model's shapes but neither reads nor writes weights.

    Raises:
        LacoError: a folder or data file that the recipe names cannot be read.
    """
    parameters = count_parameters(recipe)
    plan: dict = {"recipe": recipe.name, "at": recipe.model.at, "method": recipe.model.method, "parts": []}
    if recipe.tiny and only is None:
        start = recipe.tiny
        drawn = start.data.held_out + start.data.pages + start.data.pictures
        plan["parts"].append({"part": "data", "samples": drawn, "data": "drawn pictures"})
        for name, part, data, samples in (
            ("stage-0/encoder", start.encoder, "regions.json", start.data.pages + start.data.pictures),
            ("stage-0/llm", start.language_model, "texts.json", start.data.texts),
        ):
            rates = {"matrices": part.muon_learning_rate, "others": part.learning_rate}
            group = "encoder" if part is start.encoder else "language_model"
            plan["parts"].append(
                {
                    "part": name,
                    "data": data,
                    "samples": samples,
                    "steps": part.steps,
                    "batch_size": part.batch_size,
                    "parameters": {group: parameters[group]},
                    "learning_rates": rates,
                }
            )
    for name, stage in recipe.ordered_stages():
        if only in (None, name):
            plan["parts"].append(_stage_plan(recipe, name, stage, parameters))
    return plan


def _stage_plan(recipe: Recipe, name: str, stage: StageRecipe, parameters: dict[str, int]) -> dict:
    if recipe.tiny:
        samples = recipe.tiny.data.samples_in(stage.data)
    else:
        samples = samples_of(Path(recipe.data_folder) / stage.data)
    return {
        "part": f"stage-{name}",
        "data": stage.data,
        "samples": samples,
        "steps": steps_of(stage, samples),
        "batch_size": stage.batch_size * stage.accumulation,
        "parameters": {group: parameters[group] for group in GROUPS if group in stage.learning_rates},
        "learning_rates": dict(stage.learning_rates),
    }


def count_parameters(recipe: Recipe) -> dict[str, int]:
    """Parameters of each group, counted on a model without storage."""
    import torch

    from laco_export.models import LacoForConditionalGeneration

    from .parameter_groups import parameters_by_group

    model = recipe.model
    with torch.device("meta"):
        encoder, language_model = _empty_parts(recipe)
        built = LacoForConditionalGeneration.from_parts(
            encoder,
            language_model,
            image_token_id=0,
            at=model.at,
            method=model.method,
            ratio=model.ratio,
            mlp_hidden_size=model.mlp_hidden_size,
        )
    return {name: sum(p.numel() for p in group) for name, group in parameters_by_group(built).items()}


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
    from transformers import AutoConfig, AutoModelForCausalLM

    from laco_export.models.encoders.loading import load_encoder

    config = AutoConfig.from_pretrained(recipe.model.language_model)
    return load_encoder(recipe.model.encoder), AutoModelForCausalLM.from_config(config)


def plan_table(plan: dict) -> list:
    """The plan as Rich renderables."""
    from rich.table import Table

    table = Table(title=f"recipe {plan['recipe']}: {plan['method']} at {plan['at']}")
    for heading in ("part", "data", "samples", "steps", "batch", "trains (parameters at learning rate)"):
        table.add_column(heading)
    for part in plan["parts"]:
        table.add_row(
            part["part"],
            part["data"],
            f"{part['samples']:,}",
            str(part.get("steps", "")),
            str(part.get("batch_size", "")),
            _trained(part),
        )
    return [table]


def _trained(part: dict) -> str:
    parameters, rates = part.get("parameters", {}), part.get("learning_rates", {})
    if set(parameters) == set(rates):
        return ", ".join(f"{group} {parameters[group]:,} at {rates[group]:g}" for group in parameters)
    counts = ", ".join(f"{group} {number:,}" for group, number in parameters.items())
    return f"{counts}; " + ", ".join(f"{name} at {rate:g}" for name, rate in rates.items())
