"""Recipes in YAML: read with overrides (``--set compression.at=1/4``), and written back in full.

::

    extends                                       (another recipe, whose keys these are laid over)
    name, seed, data_folder
    like                                          (of every stage that does not say otherwise)
    model:        encoder, language_model, …      (recipe.ModelRecipe)
    compression:  method, at, ratio, …            (recipe.CompressionRecipe)
    all_stages:   keys of every stage that does not say otherwise
    stages:       distil, "1", "1.5", "2-si", "2-ov"   (recipe.StageRecipe)
    tiny:         data, encoder, language_model   (tiny.recipe.TinyStart)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from laco_export.errors import ConfigError, LacoError, UsageError

from .distillation.recipe import DistillationRecipe
from .recipe import (
    DISTIL,
    EVERY_STAGE,
    CompressionRecipe,
    ModelRecipe,
    Recipe,
    StageRecipe,
    TilingRecipe,
    check_stage,
    nearest,
)
from .tiny.recipe import TinyStart

_OF_ALL_STAGES = ("all_stages", "like")
_SECTIONS = ("model", "compression", "all_stages", "stages", "tiny")


def builtin_recipes() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = files(__package__).joinpath("recipes")
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a built-in recipe by name or a YAML file by path.

    Args:
        overrides: ``KEY=VALUE`` each, KEY with dots (``stages.1.epochs``), VALUE in YAML.

    Raises:
        UsageError: neither a built-in name nor a file, or an override without ``=``.
        ConfigError: not YAML, an unknown key, a wrong type, or a value out of range.
    """
    return recipe_from_mapping(_read(name), source=name, overrides=overrides)


def _read(name: str, extended_by: tuple[str, ...] = ()) -> Any:
    """A recipe's YAML, laid over that of the recipe which it extends."""
    values = _parse(_text_of(name), f"recipe '{name}'")
    if not isinstance(values, Mapping) or "extends" not in values:
        return values
    values, base = dict(values), str(values["extends"])
    del values["extends"]
    if base in (*extended_by, name):
        raise ConfigError(f"recipe '{name}' extends itself", given=" > ".join((*extended_by, name, base)))
    return _laid_over(_mapping(_read(base, (*extended_by, name)), f"recipe '{base}'"), values)


def _laid_over(base: Mapping, values: Mapping) -> dict:
    merged = dict(base)
    for name, value in values.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
        merged[name] = _laid_over(merged[name], value) if both else value
    return merged


def _text_of(name: str) -> str:
    builtin = name.removesuffix(".yaml")
    if Path(name).is_file():
        return Path(name).read_text(encoding="utf-8", errors="replace")
    if builtin in builtin_recipes():
        return files(__package__).joinpath("recipes", f"{builtin}.yaml").read_text(encoding="utf-8")
    raise UsageError(
        f"there is no recipe '{name}'",
        allowed=f"{', '.join(builtin_recipes())}, or the path of a YAML file",
        todo=nearest(name, builtin_recipes()),
    )


def recipe_from_mapping(values: Any, *, source: str, overrides: Sequence[str] = ()) -> Recipe:
    """Build a recipe from parsed YAML; ``source`` names it in errors."""
    try:
        values = _copy(_mapping(values, "the recipe"))
        for override in overrides:
            _override(values, override)
        values.setdefault("name", Path(source).stem)
        values["model"] = build(ModelRecipe, values.get("model") or {}, "model")
        values["compression"] = build(CompressionRecipe, values.get("compression") or {}, "compression")
        stages = _mapping(values.get("stages"), "stages")
        shared = _mapping(values.pop("all_stages", None) or {}, "all_stages")
        shared = {"like": values.pop("like", None), **shared}
        values["stages"] = {check_stage(str(name)): _stage(stage, shared, str(name)) for name, stage in stages.items()}
        if values.get("tiny") is not None:
            values["tiny"] = TinyStart.from_mapping(values["tiny"], build)
        return build(Recipe, values, "the recipe")
    except LacoError as error:
        raise type(error)(
            f"recipe '{source}': {error.failed}", given=error.given, allowed=error.allowed, todo=error.todo
        ) from None


def resolved_recipe(recipe: Recipe) -> dict:
    """The recipe with every key that it resolved to, as YAML's and JSON's plain values."""
    return _plain(asdict(recipe))


def recipe_yaml(recipe: Recipe, *, seed: int, stage: str | None = None) -> str:
    """The resolved recipe as a YAML file that :func:`load_recipe` reads again, headed by what trained a checkpoint."""
    import yaml

    head = f"# Stage {stage} of this recipe" if stage else "# This recipe"
    values = {**resolved_recipe(recipe), "seed": seed}
    return f"{head} trained the checkpoint.\n" + yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def differing_keys(then: Any, now: Any, path: str = "") -> list[str]:
    """Keys at which two resolved recipes differ, ``machine`` keys apart, each with both values."""
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        names = [*then, *(name for name in now if name not in then)]
        return [
            line
            for name in names
            if not ("stages." in path and name in _MACHINE_KEYS)
            for line in differing_keys(then.get(name), now.get(name), f"{path}{name}.")
        ]
    return [] if then == now else [f"{path.rstrip('.')}: {then} then, {now} now"]


_MACHINE_KEYS = {
    key.name for kind in (StageRecipe, DistillationRecipe) for key in fields(kind) if key.metadata.get("machine")
}


def build(kind: type, values: Any, path: str) -> Any:
    """A dataclass from a mapping: unknown keys, missing keys and wrong types are errors that name ``path``."""
    values = _mapping(values, path)
    keys = {key.name: key for key in fields(kind)}
    for name in values:
        if name not in keys:
            raise ConfigError(
                f"unknown key '{name}' in {path}",
                allowed=", ".join([*keys, *_OF_ALL_STAGES] if kind is Recipe else keys),
                todo=nearest(str(name), [*keys, *_OF_ALL_STAGES]),
            )
    needed = [name for name, key in keys.items() if key.default is MISSING and key.default_factory is MISSING]
    if missing := [name for name in needed if name not in values]:
        raise ConfigError(f"{path} lacks {' and '.join(missing)}", allowed=", ".join(keys))
    try:
        return kind(**{name: _typed(value, str(keys[name].type), f"{path}.{name}") for name, value in values.items()})
    except LacoError as error:
        named = error.failed if error.failed.startswith(path) else f"{path}: {error.failed}"
        raise ConfigError(named, given=error.given, allowed=error.allowed, todo=error.todo) from None


def _stage(values: Any, shared: Mapping, name: str) -> StageRecipe:
    values = {**shared, **_mapping(values, f"stages.{name}")}
    if values.get("tiling") is not None:
        values["tiling"] = build(TilingRecipe, values["tiling"], f"stages.{name}.tiling")
    if name == DISTIL or values.get("distillation") is not None:
        values["distillation"] = build(
            DistillationRecipe, values.get("distillation") or {}, f"stages.{name}.distillation"
        )
    return build(StageRecipe, values, f"stages.{name}")


def _override(values: dict, text: str) -> None:
    """Set one ``KEY=VALUE`` in the parsed recipe; keys that do not exist are found when it is built."""
    path, equals, value = text.partition("=")
    if not equals or not path:
        raise UsageError("--set takes KEY=VALUE", given=text, allowed="such as compression.at=1/4")
    target, parts = values, path.strip().split(".")
    done: list[str] = []
    while len(parts) > 1:
        # A stage's name may hold a dot: the longest name that stands here is meant.
        names = (*target, *EVERY_STAGE) if done == ["stages"] else tuple(target)
        taken = next((n for n in range(len(parts) - 1, 1, -1) if ".".join(parts[:n]) in names), 1)
        name = ".".join(parts[:taken])
        if not done and name not in values and name not in _SECTIONS:
            raise ConfigError(
                f"--set {text}: unknown section '{name}'",
                allowed=", ".join(_SECTIONS),
                todo=nearest(name, _SECTIONS),
            )
        if target.get(name) is None:
            target[name] = {}
        if not isinstance(target[name], dict):
            raise ConfigError(f"--set {text}: '{'.'.join([*done, name])}' has no keys inside", given=target[name])
        target, parts, done = target[name], parts[taken:], [*done, name]
    target[parts[0]] = _parse(value, f"--set {path}")


def _parse(text: str, what: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{what} is not YAML: {' '.join(str(error).split())[:200]}") from None


def _copy(values: Any) -> Any:
    return {str(name): _copy(value) for name, value in values.items()} if isinstance(values, Mapping) else values


def _plain(values: Any) -> Any:
    if isinstance(values, Mapping):
        return {str(name): _plain(value) for name, value in values.items()}
    return [_plain(value) for value in values] if isinstance(values, (list, tuple)) else values


def _mapping(values: Any, path: str) -> Mapping[str, Any]:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path} must be a mapping", given=type(values).__name__)
    return values


def _typed(value: Any, annotation: str, path: str) -> Any:
    """YAML's value as the annotated simple type. YAML 1.1 reads ``1e-3`` as a string: numbers are tried from text."""
    if value is None and "None" in annotation:
        return None
    if annotation == "Mapping[str, float]":
        return {str(k): _typed(v, "float", f"{path}.{k}") for k, v in _mapping(value, path).items()}
    if annotation == "Sequence[str]":
        values = value if isinstance(value, (list, tuple)) else [value]
        return tuple(_typed(entry, "str", path) for entry in values)
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
