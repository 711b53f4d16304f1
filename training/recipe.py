"""A training recipe: which parts start it, which stages follow, at which learning rates.

A recipe is a YAML file. `load_recipe("tiny")` reads the built-in one; any other name is a file's path. All values are
checked when the dataclasses are made, and an error names the YAML key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any

from laco_export.depth import Depth
from laco_export.errors import ConfigError, UsageError

from .tiny.recipe import TinyStart

STAGES = ("1", "1.5", "2-si", "2-ov")  # in the order in which they are trained
GROUPS = ("encoder", "compressor", "projector", "language_model")
PRECISIONS = ("fp32", "bf16")
OPTIMIZERS = ("adamw", "muon")


@dataclass(frozen=True)
class StageRecipe:
    """One stage.

    Attributes:
        data: LLaVA-style JSON file, relative to the recipe's data folder.
        learning_rates: peak learning rate of each group that the stage trains; the others are frozen.
        plain: stage 1's form: no chat template, the caption follows the picture and alone counts for the loss.
        epochs: passes over the data; may be a fraction.
        batch_size: samples per optimiser step and process, before accumulation.
        accumulation: forward passes per optimiser step; divides nothing, multiplies the batch.
        warmup_ratio: share of the steps in which the learning rates rise from zero.
        min_learning_rate: where the cosine of every group ends (the paper: 1e-7).
        optimizer: adamw, or muon (see `optimizers`).
        weight_decay, max_grad_norm: as in HF TrainingArguments.
        max_length: tokens of a sample, image tokens included; a longer one is cut at its end.
        precision: fp32 or bf16 (autocast).
        workers: processes that read pictures ahead; 0 reads them in the training process.
    """

    data: str
    learning_rates: Mapping[str, float]
    plain: bool = False
    epochs: float = 1.0
    batch_size: int = 32
    accumulation: int = 1
    warmup_ratio: float = 0.03
    min_learning_rate: float = 1e-7
    optimizer: str = "adamw"
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    max_length: int = 8192
    precision: str = "fp32"
    workers: int = 0

    def __post_init__(self) -> None:
        unknown = sorted(set(self.learning_rates) - set(GROUPS))
        if unknown or not self.learning_rates:
            raise ConfigError(
                "learning_rates names parameter groups that do not exist" if unknown else "learning_rates is empty",
                given=", ".join(unknown) or None,
                allowed=", ".join(GROUPS),
                todo=_nearest(unknown[0], GROUPS) if unknown else None,
            )
        for name, rate in self.learning_rates.items():
            if not rate > 0:
                raise ConfigError(f"learning_rates.{name} must be above 0", given=rate, todo="leave a frozen group out")
            if rate < self.min_learning_rate:
                raise ConfigError(
                    f"learning_rates.{name} lies below min_learning_rate", given=f"{rate} < {self.min_learning_rate}"
                )
        for name in ("epochs", "batch_size", "accumulation", "max_length", "max_grad_norm"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be above 0", given=getattr(self, name))
        if not 0 <= self.warmup_ratio < 1:
            raise ConfigError("warmup_ratio must lie in [0, 1)", given=self.warmup_ratio)
        for name, allowed in (("precision", PRECISIONS), ("optimizer", OPTIMIZERS)):
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name} is unknown", given=getattr(self, name), allowed=", ".join(allowed))


@dataclass(frozen=True)
class ModelRecipe:
    """What stage 1 starts from, and where the merge stands.

    Attributes:
        encoder, language_model: folders of pretrained parts; both left out where the recipe makes its own (`tiny`).
        at: depth of the merge.
        method: name of a compressor.
        ratio, mlp_hidden_size: see `laco_export.models.configuration.CompressionConfig`.
    """

    encoder: str | None = None
    language_model: str | None = None
    at: str = "1/2"
    method: str = "laco"
    ratio: int = 2
    mlp_hidden_size: int | None = None

    def __post_init__(self) -> None:
        Depth.parse(self.at)
        if (self.encoder is None) != (self.language_model is None):
            raise ConfigError("model.encoder and model.language_model go together", todo="give both folders")


@dataclass(frozen=True)
class Recipe:
    """A whole recipe.

    Attributes:
        name: for messages and `training.json`.
        model: the model that the stages train.
        stages: by stage name; those left out are not run.
        seed: of everything random, unless `--seed` is given.
        data_folder: where `stages.*.data` and the pictures lie; None where the recipe draws its own.
        tiny: present where the recipe draws its data and pretrains its own small parts (stage 0).
    """

    name: str
    model: ModelRecipe
    stages: Mapping[str, StageRecipe]
    seed: int = 0
    data_folder: str | None = None
    tiny: TinyStart | None = None

    def __post_init__(self) -> None:
        for name in self.stages:
            check_stage(name)
        if not self.stages:
            raise ConfigError("stages is empty", allowed=", ".join(STAGES))
        own_parts = self.model.encoder is None
        if own_parts != (self.tiny is not None) or own_parts != (self.data_folder is None):
            raise ConfigError(
                "a recipe either names model.encoder, model.language_model and data_folder, or has a tiny section",
                given=f"encoder {self.model.encoder}, data_folder {self.data_folder}, tiny {self.tiny is not None}",
            )

    def ordered_stages(self) -> list[tuple[str, StageRecipe]]:
        """The stages in training order."""
        return [(name, self.stages[name]) for name in STAGES if name in self.stages]


def check_stage(name: str) -> str:
    """The stage's name, or an error that suggests the nearest.

    Raises:
        UsageError: there is no such stage.
    """
    if name not in STAGES:
        raise UsageError(f"there is no stage '{name}'", allowed=", ".join(STAGES), todo=_nearest(str(name), STAGES))
    return name


def builtin_recipes() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = files(__package__).joinpath("recipes")
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_recipe(name: str) -> Recipe:
    """Read a built-in recipe by name or a YAML file by path.

    Raises:
        UsageError: neither a built-in name nor a file.
        ConfigError: not YAML, an unknown key, a wrong type, or a value out of range.
    """
    import yaml

    if name in builtin_recipes():
        text = files(__package__).joinpath("recipes", f"{name}.yaml").read_text(encoding="utf-8")
    elif Path(name).is_file():
        text = Path(name).read_text(encoding="utf-8", errors="replace")
    else:
        raise UsageError(
            f"there is no recipe '{name}'",
            allowed=f"{', '.join(builtin_recipes())}, or the path of a YAML file",
            todo=_nearest(name, builtin_recipes()),
        )
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"recipe '{name}' is not YAML: {' '.join(str(error).split())[:200]}") from None
    return recipe_from_mapping(values, source=name)


def recipe_from_mapping(values: Any, *, source: str) -> Recipe:
    """Build a recipe from parsed YAML; `source` names it in errors."""
    try:
        values = dict(_mapping(values, "the recipe"))
        values.setdefault("name", Path(source).stem)
        values["model"] = build(ModelRecipe, values.get("model") or {}, "model")
        stages = _mapping(values.get("stages"), "stages")
        values["stages"] = {str(name): build(StageRecipe, stage, f"stages.{name}") for name, stage in stages.items()}
        if values.get("tiny") is not None:
            values["tiny"] = TinyStart.from_mapping(values["tiny"], build)
        return build(Recipe, values, "the recipe")
    except (ConfigError, UsageError) as error:
        raise type(error)(
            f"recipe '{source}': {error.failed}", given=error.given, allowed=error.allowed, todo=error.todo
        ) from None


def build(kind: type, values: Any, path: str) -> Any:
    """A dataclass from a mapping: unknown keys, missing keys and wrong types are errors that name `path`."""
    values = _mapping(values, path)
    known = {field.name: field for field in fields(kind)}
    for key in values:
        if key not in known:
            raise ConfigError(
                f"unknown key '{key}' in {path}", allowed=", ".join(known), todo=_nearest(str(key), list(known))
            )
    try:
        made = kind(**{key: _typed(value, str(known[key].type), f"{path}.{key}") for key, value in values.items()})
    except TypeError as error:  # a key without default is missing
        raise ConfigError(f"{path}: {str(error).split('__init__() ')[-1]}", allowed=", ".join(known)) from None
    except ConfigError as error:
        raise ConfigError(
            f"{path}: {error.failed}", given=error.given, allowed=error.allowed, todo=error.todo
        ) from None
    return made


def _mapping(values: Any, path: str) -> Mapping[str, Any]:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path} must be a mapping", given=type(values).__name__)
    return values


def _typed(value: Any, annotation: str, path: str) -> Any:
    """YAML's value as the annotated simple type; YAML 1.1 reads `1e-3` as a string, so numbers are tried from text."""
    if value is None and "None" in annotation:
        return None
    if annotation.startswith("Mapping[str, float]"):
        return {str(k): _typed(v, "float", f"{path}.{k}") for k, v in _mapping(value, path).items()}
    for name, kind in (("bool", bool), ("float", float), ("int", int), ("str", str)):
        if annotation.removesuffix(" | None") != name:
            continue
        if isinstance(value, bool) != (kind is bool):
            break
        if isinstance(value, kind):
            return value
        try:
            if kind is float or (kind is str and isinstance(value, (int, float))):
                return kind(value)
        except (TypeError, ValueError):
            pass
        break
    else:
        return value  # a nested dataclass, built already
    raise ConfigError(f"{path} must be of type {annotation}", given=repr(value))


def _nearest(name: str, known: list[str] | tuple[str, ...]) -> str | None:
    match = get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean '{match[0]}'?" if match else None
