"""What docs/distillation.md tells people to set and to write is what the command and recipes take."""

import re
from dataclasses import fields
from pathlib import Path

import yaml

from laco_training.distil_command import build_parser
from laco_training.distillation.recipe import DistillationRecipe
from laco_training.recipe import StageRecipe
from laco_training.recipe_files import recipe_from_mapping

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "distillation.md").read_text(encoding="utf-8")


def test_its_command_is_taken():
    (line,) = re.findall(r"^laco-train (distil .*)$", PAGE, re.MULTILINE)
    arguments = build_parser().parse_args(line.split()[1:])
    assert (arguments.at, arguments.images.name) == (["1/2"], "photos.zip")


def test_its_keys_and_their_defaults_are_the_recipes():
    rows = re.findall(r"^\| `([\w.]+)`.*? \| ([^|]+) \|", PAGE, re.MULTILINE)
    stated = {name.removeprefix("distillation."): value for name, value in rows if name.startswith("distillation.")}
    defaults = {key.name: key.default for key in fields(DistillationRecipe)}
    assert {name: yaml.safe_load(value) for name, value in stated.items()} == defaults
    others = {name.split(".")[0] for name, _ in rows} - {"distillation"}
    assert others <= {key.name for key in fields(StageRecipe)} and len(others) > 3


def test_its_recipe_is_one():
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    recipe = recipe_from_mapping(yaml.safe_load(text), source="the page")
    assert [name for name, _ in recipe.ordered_stages()] == ["distil", "2-si"]
    assert recipe.stages["distil"].distillation == DistillationRecipe()
