"""A recipe that is wrong says where, and suggests what was meant."""

import pytest
import yaml

from laco_export.errors import LacoError
from laco_training.cli import main
from laco_training.recipe import STAGES, builtin_recipes, load_recipe, recipe_from_mapping

OWN = {
    "model": {"encoder": "e", "language_model": "l"},
    "data_folder": "data",
    "stages": {"1": {"data": "a.json", "learning_rates": {"projector": 1e-3}}},
}


def test_the_tiny_recipe():
    assert "tiny" in builtin_recipes()
    recipe = load_recipe("tiny")
    assert [name for name, _ in recipe.ordered_stages()] == list(STAGES)
    assert set(recipe.stages["1"].learning_rates) == {"compressor", "projector"}
    assert recipe.model.at == "1/2"
    assert recipe.model.method == "laco"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("stages.1.epoch", 2, r"unknown key 'epoch'(.|\n)*did you mean 'epochs'"),
        ("stages.1.learning_rates", {"projektor": 1e-3}, r"did you mean 'projector'"),
        ("stages.1.learning_rates", {"projector": -1}, r"learning_rates\.projector must be above 0"),
        ("stages.1.batch_size", "many", r"stages\.1\.batch_size must be of type int"),
        ("stages.1.precision", "fp8", r"precision is unknown(.|\n)*fp32, bf16"),
        ("stages.3", {"data": "x"}, "."),
        ("model.at", "banana", "'banana' is not a depth"),
        ("model.encoder", None, "go together"),
        ("seeds", 3, r"unknown key 'seeds'(.|\n)*did you mean 'seed'"),
    ],
)
def test_wrong_values(path, value, message):
    values = yaml.safe_load(yaml.safe_dump(OWN))
    keys = path.split(".")
    target = values
    for key in keys[:-1]:
        target = target[key]
    target[keys[-1]] = value
    with pytest.raises(LacoError, match=message):
        recipe_from_mapping(values, source="own.yaml")


def test_numbers_that_yaml_reads_as_text():
    values = yaml.safe_load("{data: a.json, learning_rates: {projector: 1e-3}}")
    recipe = recipe_from_mapping({**OWN, "stages": {"1": values}}, source="own.yaml")
    assert recipe.stages["1"].learning_rates == {"projector": 1e-3}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "tyni"], "did you mean 'tiny'"),
        (["--recipe", "nowhere.yaml"], "there is no recipe"),
        (["--recipe", "tiny", "--stage", "3"], "there is no stage '3'"),
    ],
)
def test_the_command_refuses(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert message in " ".join(said.split())
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def test_an_existing_output_is_kept(capsys, tmp_path):
    (tmp_path / "run").mkdir()
    assert main(["--recipe", "tiny", "--output", str(tmp_path / "run")]) == 2
    assert "--force" in capsys.readouterr().err
    assert list((tmp_path / "run").iterdir()) == []


def test_the_plan(capsys):
    import json

    assert main(["--recipe", "tiny", "--dry-run", "--json"]) == 0
    parts = json.loads(capsys.readouterr().out)["parts"]
    assert [part["part"] for part in parts][-4:] == [f"stage-{name}" for name in STAGES]
    stage_1 = next(part for part in parts if part["part"] == "stage-1")
    assert set(stage_1["parameters"]) == {"compressor", "projector"}
