"""A recipe of one's own through the command: run, resumed, refused, planned."""

import json
import shutil
import sys
from io import StringIO
from pathlib import Path

import pytest
import torch
import yaml
from transformers import Trainer

from laco_export.models import checkpoint
from laco_training import plan, processes, stages
from laco_training.cli import main
from laco_training.plan import Plan
from laco_training.plan_view import plan_renderables
from laco_training.recipe import GROUPS
from laco_training.recipe_files import load_recipe


@pytest.fixture(scope="module")
def recipe(tiny_checkpoint, stage_data, tmp_path_factory):
    """A recipe of two stages, from an encoder folder and an LLM folder."""
    folder = tmp_path_factory.mktemp("recipe")
    loaded = checkpoint.load(tiny_checkpoint)
    loaded.model.vision_model.encoder.save_pretrained(folder / "encoder")
    loaded.model.language_model.save_pretrained(folder / "llm")
    loaded.processor.tokenizer.save_pretrained(folder / "llm")
    values = {
        "model": {"encoder": str(folder / "encoder"), "language_model": str(folder / "llm")},
        "compression": {"at": "1/2"},
        "data_folder": str(stage_data),
        "all_stages": {
            "data": "data.json",
            "global_batch_size": 4,
            "per_device_batch_size": 2,
            "precision": "fp32",
            "max_length": 500,
            "save_every": 3,
        },
        "stages": {
            "1": {"plain": True, "learning_rates": {"compressor": 1e-3, "projector": 1e-3}},
            "2-si": {
                "tiling": {"max_rows": 1, "max_columns": 2, "max_tiles": 2},
                "learning_rates": {"encoder": 1e-4, "compressor": 1e-3, "projector": 1e-3, "language_model": 1e-3},
            },
        },
    }
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(values))
    return str(path)


@pytest.fixture(scope="module")
def finished(recipe, tmp_path_factory):
    """The folder of a whole run at another depth than the recipe's."""
    output = tmp_path_factory.mktemp("runs") / "run"
    assert main(["--recipe", recipe, "--set", "compression.at=1", "--output", str(output), "--debug"]) == 0
    return output


def test_a_run_leaves_checkpoints_with_their_recipe(finished):
    for name in ("stage-1", "stage-2-si", "checkpoint"):
        loaded = checkpoint.load(finished / name)
        assert loaded.model.config.compression["depths"] == ("1",)
        own = load_recipe(str(finished / name / "recipe.yaml"))
        assert own.compression.at == ("1",)
        assert own.stages["1"].global_batch_size == 4
    assert (finished / "checkpoint" / "recipe.yaml").read_text().startswith("# Stage 2-si of this recipe")
    assert loaded.model.config.untrained == []
    assert loaded.processor.tiling["max_columns"] == 2
    parts = json.loads((finished / "training.json").read_text())["parts"]
    assert [len(parts[name]["losses"]) for name in ("stage-1", "stage-2-si")] == [4, 4]
    assert (finished / "losses.png").stat().st_size > 1000
    assert list((finished / "tensorboard" / "stage-1").iterdir())
    assert not list(finished.glob("*-progress"))


def test_a_finished_stage_is_not_run_again(finished, recipe):
    weights = finished / "stage-1" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    arguments = ["--recipe", recipe, "--set", "compression.at=1", "--set", "all_stages.workers=1"]
    assert main([*arguments, "--output", str(finished), "--resume"]) == 0  # a key of the machine may change
    assert weights.stat().st_mtime_ns == before


def test_another_recipe_is_refused_on_resume(finished, recipe, capsys):
    before = (finished / "recipe.json").read_text()
    arguments = ["--recipe", recipe, "--set", "stages.2-si.learning_rates.encoder=2e-4", "--output", str(finished)]
    assert main([*arguments, "--resume"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "stages.2-si.learning_rates.encoder: 0.0001 then, 0.0002 now" in said
    assert "compression.at" in said and "--force" in said
    assert (
        main(["--recipe", recipe, "--set", "compression.at=1", "--seed", "9", "--output", str(finished), "--resume"])
        == 2
    )
    assert "seed: 0 then, 9 now" in " ".join(capsys.readouterr().err.split())
    assert (finished / "recipe.json").read_text() == before


def test_a_run_of_before_a_key_was_there_is_resumed(recipe, finished, tmp_path):
    """What the record lacks had the value that the key has now unless it is given."""
    shutil.copytree(finished, tmp_path / "run")
    record = json.loads((tmp_path / "run" / "recipe.json").read_text())
    del record["recipe"]["model"]["projector_start"]
    (tmp_path / "run" / "recipe.json").write_text(json.dumps(record))
    arguments = ["--recipe", recipe, "--set", "compression.at=1", "--output", str(tmp_path / "run"), "--resume"]
    assert main(arguments) == 0
    shutil.copy(finished / "recipe.json", tmp_path / "run" / "recipe.json")
    assert main([*arguments, "--set", "model.projector_start=text_rms"]) == 2


def test_a_stage_needs_the_one_before_it(recipe, tmp_path, capsys):
    assert main(["--recipe", recipe, "--stage", "2-si", "--output", str(tmp_path / "run")]) == 2
    assert "starts from stage 1" in capsys.readouterr().err


@pytest.mark.parametrize("options", [("--force",), ("--resume",), ("--stage", "1")])
def test_what_is_no_run_is_not_replaced(recipe, tmp_path, capsys, options):
    """``--force`` replaces the whole folder, the others its ``checkpoint``; refused before anything is trained."""
    output = tmp_path / "pictures"
    (output / "checkpoint").mkdir(parents=True)
    (output / "checkpoint" / "cat.jpg").write_bytes(b"cat")
    assert main(["--recipe", recipe, "--output", str(output), *options]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert ("--force does not replace it" if options == ("--force",) else "is no LaCo checkpoint") in said
    assert [path.name for path in output.rglob("*")] == ["checkpoint", "cat.jpg"]


@pytest.fixture
def short(recipe, tmp_path):
    """The recipe with stage 1 alone."""
    values = yaml.safe_load(Path(recipe).read_text())
    del values["stages"]["2-si"]
    (tmp_path / "short.yaml").write_text(yaml.safe_dump(values))
    return str(tmp_path / "short.yaml")


def interrupt_at(monkeypatch, step):
    """Ctrl-C in this optimiser step."""
    original = Trainer.training_step

    def training_step(self, *args, **options):
        if self.state.global_step == step:
            raise KeyboardInterrupt
        return original(self, *args, **options)

    monkeypatch.setattr(Trainer, "training_step", training_step)


def run_that_stands(folder):
    """Something that looks like a run, to be replaced."""
    folder.mkdir()
    for name in ("recipe.json", "stage-left-behind"):
        (folder / name).write_text("{}")
    return folder


@pytest.mark.parametrize("resuming", [("--resume",), ("--resume", "--force")])
def test_an_interrupted_force_is_resumed_beside_the_old_run(short, tmp_path, monkeypatch, capsys, resuming):
    output = run_that_stands(tmp_path / "run")
    with monkeypatch.context() as patched:
        interrupt_at(patched, 3)
        assert main(["--recipe", short, "--output", str(output), "--force"]) == 130
    assert "run.new" in capsys.readouterr().err
    assert sorted(path.name for path in output.iterdir()) == ["recipe.json", "stage-left-behind"]
    new = tmp_path / "run.new"
    weights = new / "stage-0" / "checkpoint" / "model.safetensors"
    made = weights.stat().st_ino
    assert (new / "stage-1-progress" / "checkpoint-3" / "complete.json").is_file()
    assert main(["--recipe", short, "--output", str(output), *resuming]) == 0
    assert (output / "stage-0" / "checkpoint" / "model.safetensors").stat().st_ino == made
    assert checkpoint.load(output / "checkpoint").model.config.untrained == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "short.yaml"]
    assert not (output / "stage-left-behind").exists() and not (output / "replaces.json").exists()


def test_force_again_starts_again(short, tmp_path, monkeypatch):
    output = run_that_stands(tmp_path / "run")
    with monkeypatch.context() as patched:
        interrupt_at(patched, 0)
        assert main(["--recipe", short, "--output", str(output), "--force"]) == 130
    (tmp_path / "run.new" / "stage-old").write_text("")
    assert main(["--recipe", short, "--output", str(output), "--force"]) == 0
    assert checkpoint.load(output / "checkpoint").model.config.untrained == []
    assert not (output / "stage-left-behind").exists() and not (output / "stage-old").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "short.yaml"]


def test_force_changes_nothing_where_nothing_stands(short, tmp_path, monkeypatch):
    output = tmp_path / "run"
    with monkeypatch.context() as patched:
        interrupt_at(patched, 3)
        assert main(["--recipe", short, "--output", str(output), "--force"]) == 130
    assert (output / "stage-1-progress" / "checkpoint-3" / "complete.json").is_file()
    assert main(["--recipe", short, "--output", str(output), "--resume"]) == 0
    assert checkpoint.load(output / "checkpoint").model.config.untrained == []


def test_a_stage_from_a_start_that_was_trained_again_is_refused(recipe, tmp_path, capsys):
    output = tmp_path / "run"
    assert main(["--recipe", recipe, "--output", str(output)]) == 0
    assert main(["--recipe", recipe, "--output", str(output), "--resume"]) == 0
    again = checkpoint.load(output / "stage-1")
    with torch.no_grad():
        again.model.projector.linear_1.weight.add_(1)  # as a stage 1 that was trained again may come out
    checkpoint.save(again.model, again.processor, output / "stage-1", force=True)
    capsys.readouterr()
    assert main(["--recipe", recipe, "--output", str(output), "--resume"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "stage 2-si was trained from another checkpoint" in said and "--stage 2-si --force" in said
    assert main(["--recipe", recipe, "--output", str(output), "--stage", "2-si", "--force"]) == 0
    assert main(["--recipe", recipe, "--output", str(output), "--resume"]) == 0


def test_another_folder_of_that_name_is_not_touched(short, tmp_path, capsys):
    output = run_that_stands(tmp_path / "run")
    run_that_stands(tmp_path / "run.new")
    assert main(["--recipe", short, "--output", str(output), "--force"]) == 2
    assert "run.new' exists already" in " ".join(capsys.readouterr().err.split())
    for name in ("run", "run.new"):
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == ["recipe.json", "stage-left-behind"]


def test_a_batch_that_the_processes_cannot_share(recipe, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(processes, "count", lambda: 3)
    assert main(["--recipe", recipe, "--output", str(tmp_path / "run")]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "stages.1: global_batch_size is no multiple" in said
    assert "4, and 2 x 3" in said
    assert not (tmp_path / "run").exists()


def test_a_length_beyond_the_context_is_found_before_the_first_stage(recipe, tmp_path, capsys):
    output = tmp_path / "run"
    assert main(["--recipe", recipe, "--output", str(output), "--set", "stages.2-si.max_length=513"]) == 2
    assert "stages.2-si: max_length is beyond the language model's context" in " ".join(capsys.readouterr().err.split())
    assert not (output / "stage-1").exists()


def test_deepspeed_that_is_not_installed(recipe, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    assert main(["--recipe", recipe, "--output", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert "DeepSpeed, which is not installed" in said and "pip install deepspeed" in said
    monkeypatch.setattr(processes, "find_spec", lambda name: True)
    assert main(["--recipe", recipe, "--output", str(tmp_path / "run"), "--set", "stages.1.optimizer=muon"]) == 2
    assert "stages.1: DeepSpeed does not shard this optimizer" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_plan(recipe, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["--recipe", recipe, "--set", "all_stages.precision=bf16", "--dry-run", "--json", "--debug"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert (planned["method"], planned["merge"], planned["tokens_per_tile"]) == ("laco", {"1/2": 1}, 4)
    first, second = planned["parts"]
    assert (first["samples"], first["steps"], first["accumulation"]) == (16, 4, 2)
    assert first["kinds"] == {"text": 2, "image": 14}
    assert set(first["parameters"]) == {"compressor", "projector"}
    assert first["memory"]["gradients"] == 4 * sum(first["parameters"].values())
    assert second["memory"]["optimizer"] == 8 * sum(second["parameters"].values())
    assert second["memory"]["total"] > first["memory"]["total"]
    assert second["memory"]["forward"]["tiles"] > first["memory"]["forward"]["tiles"]
    assert second["estimated_tokens"] > first["estimated_tokens"] > 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("start", "said"),
    [("text_rms", "text embeddings have a root mean square of"), ("captions", "of the variance of 16 answers' words")],
)
def test_a_projector_starts_as_the_recipe_says(recipe, tmp_path, capsys, start, said):
    """Where outputs of frozen blocks are kept, the solver's are the first stage's."""
    options = [f"model.projector_start={start}", "stages.1.keep_frozen_outputs=true", "stages.1.epochs=0.25"]
    arguments = ["--recipe", recipe, "--stage", "1", *(word for option in options for word in ("--set", option))]
    assert main([*arguments, "--output", str(tmp_path / "run"), "--debug"]) == 0
    assert said in " ".join(capsys.readouterr().err.split())
    assert main([*arguments[:-6], *arguments[-4:], "--output", str(tmp_path / "plain")]) == 0  # without the start
    started, plain = (
        checkpoint.load(tmp_path / run / "stage-0" / "checkpoint").model.projector for run in ("run", "plain")
    )
    assert torch.equal(started.linear_1.weight, plain.linear_1.weight)
    assert not torch.allclose(started.linear_2.weight, plain.linear_2.weight)
    entries = list((tmp_path / "run" / "frozen-outputs").rglob("*.safetensors"))
    assert len(entries) == 3 or start != "captions"  # of one colour each: three pictures, whatever their names


def test_a_merge_starts_as_the_recipe_says(recipe, tmp_path, capsys):
    """Before the projector is solved for: what it explains of the captions is of these features."""
    options = ["model.merge_start=average", "model.projector_start=captions", "stages.1.epochs=0.25"]
    arguments = ["--recipe", recipe, "--stage", "1", *(word for option in options for word in ("--set", option))]
    assert main([*arguments, "--output", str(tmp_path / "run"), "--debug"]) == 0
    begun = checkpoint.load(tmp_path / "run" / "stage-0" / "checkpoint").model
    assert not any(merge.mlp.linear_2.weight.any() for merge in begun.vision_model.compressors.values())
    folder = tmp_path / "run" / "stage-1"  # the copy in "checkpoint" is made after the last stage
    assert "".join(capsys.readouterr().err.split()).endswith(f"thecheckpoint:{folder}")
    trained = checkpoint.load(folder).model
    assert any(merge.mlp.linear_2.weight.any() for merge in trained.vision_model.compressors.values())


def test_the_plan_proposes_rates_for_another_batch(recipe, capsys):
    """A hundred and twenty-eighth of the batch: rates over 11.3."""
    rates = ["--set", "all_stages.rates_for_batch=512"]
    assert main(["--recipe", recipe, *rates, "--dry-run", "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)["parts"]
    assert first["fitting_learning_rates"] == {"compressor": 8.8e-5, "projector": 8.8e-5}
    assert second["fitting_learning_rates"]["encoder"] == 8.8e-6
    assert main(["--recipe", recipe, *rates, "--dry-run"]) == 0
    said = "".join(capsys.readouterr().err.split())
    advice = "--setstages.1.learning_rates.compressor=8.8e-05--setstages.1.learning_rates.projector=8.8e-05"
    assert f"{advice}--setstages.1.rates_for_batch=4" in said
    assert main(["--recipe", recipe, "--dry-run"]) == 0
    assert "another batch" not in capsys.readouterr().err


def test_a_tokenizer_that_is_not_ready(recipe, make_plain, tmp_path, capsys):
    """It is made ready for the plan as for the run, which pads its batches."""
    parts = Path(load_recipe(recipe).model.encoder).parent
    shutil.copytree(parts / "llm", tmp_path / "llm")
    make_plain(tmp_path / "llm")
    plain = ["--recipe", recipe, "--set", f"model.language_model={tmp_path / 'llm'}"]
    planned = []
    for options in (["--recipe", recipe], plain):
        assert main([*options, "--dry-run", "--json", "--debug"]) == 0
        planned.append(json.loads(capsys.readouterr().out)["parts"])
    assert planned[0] == planned[1]  # tokens, parameters, memory
    assert main([*plain, "--stage", "1", "--output", str(tmp_path / "run"), "--debug"]) == 0
    assert "new tokens: <|image_pad|> (262), <|video_pad|> (263)" in " ".join(capsys.readouterr().err.split())
    trained = checkpoint.load(tmp_path / "run" / "stage-1")
    assert trained.model.config.text_config.vocab_size == 264
    assert trained.processor.tokenizer.pad_token == "<|endoftext|>"


def test_the_plan_refuses_another_models_tokenizer(recipe, tmp_path, capsys):
    shutil.copytree(Path(load_recipe(recipe).model.encoder).parent / "llm", tmp_path / "llm")
    config = tmp_path / "llm" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "vocab_size": 151_936}))
    plain = ["--recipe", recipe, "--set", f"model.language_model={tmp_path / 'llm'}"]
    assert main([*plain, "--dry-run"]) == 1
    assert "far fewer tokens than the model has rows" in " ".join(capsys.readouterr().err.split())


def test_the_plan_draws_as_the_run_does(recipe, tmp_path, monkeypatch, capsys):
    """By the seed given, each stage by its own; and the main process alone shows it."""
    drawn = {"plan": [], "run": []}
    for name, module in (("plan", plan), ("run", stages)):
        opened = module.open_stage_data
        monkeypatch.setattr(
            module,
            "open_stage_data",
            lambda *a, seed, into=drawn[name], opened=opened: (into.append(seed), opened(*a, seed=seed))[1],
        )
    assert main(["--recipe", recipe, "--dry-run", "--json", "--seed", "7"]) == 0
    assert json.loads(capsys.readouterr().out)["parts"]
    assert main(["--recipe", recipe, "--output", str(tmp_path / "run"), "--seed", "7"]) == 0
    assert drawn["plan"] == drawn["run"]
    monkeypatch.setenv("RANK", "1")
    capsys.readouterr()
    assert main(["--recipe", recipe, "--dry-run", "--json"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("seed", ["-3", "99999999999"])
def test_a_seed_out_of_range(recipe, tmp_path, capsys, seed):
    assert main(["--recipe", recipe, "--output", str(tmp_path / "run"), "--seed", seed]) == 2
    assert f"seed is out of range given: {seed} allowed: 0 to" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


def test_the_plan_shows_the_first_samples(recipe, capsys):
    assert main(["--recipe", recipe, "--dry-run"]) == 0
    said = capsys.readouterr().err
    assert "4 image tokens" in said
    assert "redred" in said or "red" in said
    assert "GiB" in said or "MiB" in said


def test_the_plan_breaks_no_figure_in_a_narrow_terminal():
    from rich.console import Console

    memory = dict.fromkeys(("weights", "gradients", "optimizer", "activations", "total"), 13 << 30)
    part = {
        "part": "stage-2-si",
        "data": "blip_laion_cc_sbu_558k.json",
        "samples": 3_200_000,
        "steps": 6_250,
        "global_batch_size": 512,
        "per_device_batch_size": 16,
        "accumulation": 32,
        "estimated_tokens": 2_100_000_000,
        "parameters": dict.fromkeys(GROUPS, 309_525_504),
        "learning_rates": dict.fromkeys(GROUPS, 1e-5),
        "memory": {**memory, "forward": {"rows": 16, "tokens": 7_185, "tiles": 160}},
    }
    values = {"recipe": "r", "method": "laco", "merge": {"1/4": 6}, "tokens_per_tile": 144, "processes": 8}
    console = Console(width=80, file=StringIO())
    console.print(*plan_renderables(Plan({**values, "parts": [part]}, {})))
    said = console.file.getvalue()
    for whole in (
        "activations",
        "13.00 GiB",
        "3,200,000",
        "2,100 M",
        "= 16 x 8 x 32",
        "309,525,504",
        "language_model",
        "stage-2-si",
        "blip_laion_cc_sbu_558k.json",
    ):
        assert whole in said
    assert max(map(len, said.splitlines())) <= 80


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("compression.method=lako", "compression.method is unknown"),
        ("compression.at=block:9", "block 9 lies beyond"),
        ("stages.1.data=nowhere.json", "stages.1: there is no data file"),
        ("stages.2-si.max_length=513", "stages.2-si: max_length is beyond the language model's context"),
        ("stages.1.global_batch_size=64", "stages.1: data does not fill one global_batch_size"),
    ],
)
def test_what_a_plan_finds(recipe, capsys, override, message):
    assert main(["--recipe", recipe, "--dry-run", "--set", override]) in (1, 2)
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_plan_names_samples_that_cannot_be_used(recipe, stage_data, tmp_path, capsys):
    entries = [entry for entry in json.loads((stage_data / "data.json").read_text()) if "image" in entry]
    (tmp_path / "pictures.json").write_text(json.dumps(entries))
    options = ["--set", f"stages.1.data={tmp_path / 'pictures.json'}", "--set", f"stages.1.images={tmp_path}"]
    assert main(["--recipe", recipe, "--dry-run", *options]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "stages.1: none of the" in said and "samples that were tried can be used" in said
    assert said.count("does not exist") == 5 and " more do: " in said
    assert "BatchNotes" not in said
