"""``laco-train distil``, and the stage in a run."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from laco_export.models import checkpoint
from laco_training.cli import main


@pytest.fixture(scope="module")
def data(make_tiny_model, make_tiny_checkpoint, tmp_path_factory):
    """A folder with ``teacher``, ``pictures`` and ``data.json`` about them."""
    folder = tmp_path_factory.mktemp("distil")
    make_tiny_checkpoint(make_tiny_model(blocks=4, method=None), folder / "teacher")
    (folder / "pictures").mkdir()
    random = np.random.default_rng(0)
    entries = []
    for index in range(20):
        grain = Image.fromarray(random.integers(0, 255, (5, 5, 3), dtype=np.uint8))
        grain.resize((60, 60), Image.Resampling.BICUBIC).save(folder / "pictures" / f"{index}.png")
        turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "noise"}]
        entries.append({"id": str(index), "image": f"pictures/{index}.png", "conversations": turns})
    (folder / "data.json").write_text(json.dumps(entries))
    return folder


def distil(data, output, *more):
    teacher, pictures = str(data / "teacher"), str(data / "pictures")
    common = ["--teacher", teacher, "--images", pictures, "--output", str(output), "--steps", "3", "--batch", "6"]
    return main(["distil", *common, *more])


def test_it_writes_a_student_and_says_what_it_costs(data, tmp_path, capsys):
    more = ("--at", "1/2", "--set", "distillation.merge_first=0.5", "--tensorboard", str(tmp_path / "board"))
    assert distil(data, tmp_path / "out", *more) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "3 steps, loss" in said and "(2 pictures held out)" in said and "now: laco-export --model" in said
    model = checkpoint.load(tmp_path / "out").model
    assert model.config.compression_config.depths == ("1/2",)
    assert list((tmp_path / "board").iterdir())
    record = (tmp_path / "out" / "recipe.yaml").read_text()
    assert "merge_first: 0.5" in record and "max_steps: 3" in record
    assert distil(data, tmp_path / "out") == 2
    assert "exists already" in capsys.readouterr().err
    assert distil(data, tmp_path / "two", "--student", str(tmp_path / "out"), "--json", "--resume") == 0
    said = capsys.readouterr()
    assert "two-progress' holds no checkpoint to go on from" in " ".join(said.err.split())
    described = json.loads(said.out)
    assert len(described["losses"]) == 3 and described["before"].keys() == {"1/2"}


def test_a_plan_reads_no_weights_and_writes_nothing(data, tmp_path, capsys):
    assert distil(data, tmp_path / "out", "--at", "1/2", "1/4", "--dry-run", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["merge"] == {"1/2": 2, "1/4": 1} and plan["tokens_per_tile"] == 4
    (part,) = plan["parts"]
    assert (part["samples"], part["held_out"], part["steps"]) == (18, 2, 3)
    assert part["parameters"].keys() == {"encoder", "compressor"}
    assert part["memory"]["total"] > part["memory"]["weights"] > 0
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--teacher", "nothing"), "--teacher: there is no folder 'nothing'"),
        (("--images", "nothing"), "there are no pictures at"),
        (("--at", "block:9"), "block 9"),
        (("--batch", "30"), "does not fill one global_batch_size"),
        (("--batch", "6", "--per-device", "4"), "no multiple of per_device_batch_size"),
        (("--steps", "0"), "max_steps must be a whole number"),
        (("--set", "distillation.blokcs=1"), "did you mean 'blocks'?"),
        (("--set", "tiling={}"), "tiling is no key of a stage that distils"),
        (("--set", "learning_rates={projector: 0.1}"), "nothing that distillation is for"),
        (("--set", "learning_rates.language_model=0.1"), "taught by its own predictions alone"),
        (("--seed", "-1"), "the seed is out of range"),
        (("--student", ".", "--at", "1"), "a student has merges of its own"),
        (("--set", "distillation.language_model=1"), "holds no conversations"),
    ],
)
def test_what_cannot_be_done_is_said(data, tmp_path, capsys, more, said):
    assert distil(data, tmp_path / "out", *more) in (1, 2)
    error = " ".join(capsys.readouterr().err.split())
    assert said in error and "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_the_teacher_is_not_replaced_by_its_student(data, tmp_path, capsys):
    before = {path: path.read_bytes() for path in (data / "teacher").iterdir()}
    assert distil(data, data / "pictures" / ".." / "teacher", "--force") == 2
    assert "would be replaced" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (data / "teacher").iterdir()} == before


def test_a_run_does_not_replace_the_checkpoint_that_it_starts_from(data, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(data / "teacher", run / "checkpoint")
    (run / "recipe.json").write_text("{}")
    recipe = tmp_path / "heal.yaml"
    recipe.write_text(f"""
name: heal
data_folder: {data}
model: {{checkpoint: {run / "checkpoint"}}}
compression: {{at: 1/2}}
stages: {{distil: {{data: pictures, learning_rates: {{encoder: 1e-4}}, global_batch_size: 6, max_steps: 3}}}}
""")
    assert main(["--recipe", str(recipe), "--output", str(run), "--force"]) == 2
    assert "would be replaced" in capsys.readouterr().err
    assert (run / "checkpoint" / "model.safetensors").is_file()


def test_a_run_distils_and_goes_on(data, tmp_path, capsys):
    """The stage first, then an ordinary one from its checkpoint; nothing is written twice."""
    recipe = f"""
name: heal
data_folder: {data}
model: {{checkpoint: {data / "teacher"}}}
compression: {{at: 1/2}}
all_stages: {{global_batch_size: 6, precision: fp32, max_length: 256}}
stages:
  distil: {{data: pictures, learning_rates: {{compressor: 1e-3, encoder: 1e-4}}, max_steps: 3}}
  "1": {{data: data.json, learning_rates: {{projector: 1e-3}}, plain: true}}
"""
    (tmp_path / "heal.yaml").write_text(recipe)
    arguments = ["--recipe", str(tmp_path / "heal.yaml"), "--output", str(tmp_path / "run")]
    assert main([*arguments, "--dry-run", "--json"]) == 0
    assert [part["part"] for part in json.loads(capsys.readouterr().out)["parts"]] == ["stage-distil", "stage-1"]
    assert main([*arguments, "--resume"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "merged at 1/2: relative error" in said
    assert f"--resume: no run was begun in '{tmp_path / 'run'}'" in said
    assert said.count("--resume:") == 1, "a stage that was not begun is no news then"
    prices = json.loads((tmp_path / "run" / "training.json").read_text())["parts"]["stage-distil"]["prices"]
    assert [price["step"] for price in prices] == [0, 3] and "cosine" in prices[1]["1/2"]
    assert not (tmp_path / "run" / "stage-0").exists() and (tmp_path / "run" / "losses.png").is_file()
    student, last = (
        checkpoint.load(tmp_path / "run" / name).model.state_dict() for name in ("stage-distil", "stage-1")
    )
    moved = {name for name in student if not torch.equal(student[name], last[name])}
    assert moved == {name for name in student if name.startswith("projector.")}
    assert main([*arguments, "--resume"]) == 0
    assert main([*arguments, "--resume", "--set", "stages.distil.max_steps=4"]) == 2
    assert "max_steps: 3 then, 4 now" in " ".join(capsys.readouterr().err.split())
