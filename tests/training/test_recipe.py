"""The built-in recipes are the paper's; a recipe that is wrong says where, and suggests what was meant."""

import pytest
import yaml

from laco_export.errors import LacoError
from laco_training.cli import main
from laco_training.recipe import STAGES, ModelRecipe, StageRecipe
from laco_training.recipe_files import (
    builtin_recipes,
    differing_keys,
    load_recipe,
    recipe_from_mapping,
    recipe_yaml,
    resolved_recipe,
)

OWN = {
    "model": {"encoder": "e", "language_model": "l"},
    "data_folder": "data",
    "stages": {"1": {"data": "a.json", "learning_rates": {"projector": 1e-3}}},
}
PAPER = ("laco_aimv2_qwen2.5_0.5b", "laco_siglip_qwen2.5_0.5b", "laco_internvit_qwen2.5_0.5b")


def test_the_tiny_recipe():
    assert "tiny" in builtin_recipes()
    recipe = load_recipe("tiny")
    assert [name for name, _ in recipe.ordered_stages()] == list(STAGES)
    assert set(recipe.stages["1"].learning_rates) == {"compressor", "projector"}
    assert recipe.compression.at == ("1/2",)
    assert recipe.compression.method == "laco"


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_recipe(name):
    recipe = load_recipe(name)
    assert [stage for stage, _ in recipe.ordered_stages()] == list(STAGES)
    for stage in recipe.stages.values():
        common = (stage.epochs, stage.global_batch_size, stage.warmup_ratio, stage.min_learning_rate)
        assert common == (1, 512, 0.03, 1e-7)
        assert stage.max_broken == 0.001
        assert (stage.weight_decay, stage.precision, stage.optimizer, stage.max_frames) == (0, "bf16", "adamw", 32)
    first, middle, single, one_vision = (recipe.stages[stage] for stage in STAGES)
    assert first.learning_rates == {"compressor": 1e-3, "projector": 1e-3}
    assert (first.plain, first.tiling, first.max_length) == (True, None, 8192)
    for stage in (middle, single, one_vision):
        assert stage.learning_rates == {
            "encoder": 2e-6,
            "compressor": 1e-5,  # inside the vision tower, and yet not the encoder's
            "projector": 1e-5,
            "language_model": 1e-5,
        }
        assert (stage.plain, stage.max_length) == (False, 32768)
    assert set(middle.tiling.grids) == {(1, 2), (2, 1), (2, 2), (1, 3), (3, 1)}
    for stage in (single, one_vision):
        assert (stage.tiling.max_rows, stage.tiling.max_columns, stage.tiling.max_tiles) == (6, 6, 9)


@pytest.mark.parametrize("name", sorted(set(builtin_recipes()) - {*PAPER, "tiny", "laco_dinov2_smollm2_135m"}))
def test_the_other_sizes_are_the_papers_curriculum(name):
    """Only the parts and what a forward pass holds are others."""
    recipe = load_recipe(name)
    papers = {load_recipe(paper).model.encoder: load_recipe(paper) for paper in PAPER}
    kind = recipe.model.encoder.lower().split("/")[1][:6]
    (like,) = [paper for encoder, paper in papers.items() if encoder.lower().split("/")[1][:6] == kind]
    differing = {line.split(":")[0] for line in differing_keys(resolved_recipe(like), resolved_recipe(recipe))}
    assert differing == {"name", "model.encoder", "model.language_model"} - (
        {"model.encoder"} if recipe.model.encoder == like.model.encoder else set()
    )
    assert {stage.per_device_batch_size for stage in recipe.stages.values()} == {1, 4}


def test_a_recipe_laid_over_another(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        f"extends: {PAPER[0]}\ncompression: {{at: 1/12}}\nstages: {{2-si: {{tiling: null}}}}\n"
    )
    recipe = load_recipe(str(tmp_path / "mine.yaml"), ["stages.1.epochs=2"])
    base = load_recipe(PAPER[0])
    assert (recipe.compression.at, recipe.compression.ratio) == (("1/12",), 2)
    assert recipe.stages["2-si"].tiling is None
    assert recipe.stages["2-ov"] == base.stages["2-ov"]
    assert (recipe.stages["1"].epochs, base.stages["1"].epochs) == (2, 1)


@pytest.mark.parametrize(
    ("extends", "named"),
    [("mine.yaml", "extends itself"), ("laco_aimv2_qwen2.5", "did you mean 'laco_aimv2_qwen2.5_0.5b'")],
)
def test_a_recipe_that_extends_nothing(tmp_path, monkeypatch, extends, named):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(f"extends: {extends}\n")
    with pytest.raises(LacoError, match=named):
        load_recipe("mine.yaml")


@pytest.mark.parametrize("method", ["laco", "pixel_shuffle", "ldpv2", "token_packer", "average_pool", None])
@pytest.mark.parametrize("depth", ["1/12", "1"])
def test_depths_and_baselines_are_one_override_each(depth, method):
    overrides = [f"compression.at={depth}", f"compression.method={'null' if method is None else method}"]
    recipe = load_recipe(PAPER[0], overrides)
    assert recipe.compression.at == (depth,)
    assert recipe.compression.method == method


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("stages.1.epochs=0.5", lambda recipe: recipe.stages["1"].epochs == 0.5),
        ("stages.1.5.epochs=3", lambda recipe: recipe.stages["1.5"].epochs == 3),
        (
            "stages.1.5.learning_rates.encoder=1e-6",
            lambda recipe: recipe.stages["1.5"].learning_rates["encoder"] == 1e-6,
        ),
        ("all_stages.workers=7", lambda recipe: all(stage.workers == 7 for stage in recipe.stages.values())),
        ("compression.at=[1/4, 1/2, 1]", lambda recipe: recipe.compression.at == ("1/4", "1/2", "1")),
        ("compression.at=1/4+3/4", lambda recipe: recipe.compression.at == ("1/4+3/4",)),
        ("compression.ratio=3", lambda recipe: recipe.compression.ratio == 3),
        ("stages.2-si.tiling.max_tiles=4", lambda recipe: recipe.stages["2-si"].tiling.max_tiles == 4),
        ("stages.2-si.tiling=null", lambda recipe: recipe.stages["2-si"].tiling is None),
        ("data_folder=/data", lambda recipe: recipe.data_folder == "/data"),
        ("seed=3", lambda recipe: recipe.seed == 3),
    ],
)
def test_overrides(override, read):
    assert not read(load_recipe(PAPER[0]))
    assert read(load_recipe(PAPER[0], [override]))


def test_a_recipe_like_llava_next_has_stages_like_it():
    two = {"1": OWN["stages"]["1"], "1.5": {**OWN["stages"]["1"], "like": None}}
    recipe = recipe_from_mapping({**OWN, "like": "llava-next", "stages": two}, source="own")
    assert [stage.like for _, stage in recipe.ordered_stages()] == ["llava-next", None]
    assert load_recipe(PAPER[0], ["like=llava-next"]).stages["2-ov"].like == "llava-next"
    assert load_recipe(PAPER[0]).stages["2-ov"].like is None
    with pytest.raises(LacoError, match=r"stages\.1: like is unknown(.|\n)*llava-next"):
        load_recipe(PAPER[0], ["like=llava"])


def test_a_path_of_merges_is_read_and_written():
    overrides = ["compression.at=[1/2, 1/4+3/4, 1/4+1]", "compression.ratio=[4, 2+2, 2+3]"]
    compression = load_recipe(PAPER[0], overrides).compression
    assert (compression.at, compression.ratio) == (("1/2", "1/4+3/4", "1/4+1"), (4, 2, "2+3"))
    recipe = load_recipe(PAPER[0], ["compression.at=1/4+3/4", "compression.ratio=2+3"])
    written = yaml.safe_load(recipe_yaml(recipe, seed=recipe.seed))
    assert written["compression"]["ratio"] == "2+3"
    assert recipe_from_mapping(written, source="written") == recipe


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("compression.ratio=two", r"compression: ratio is not supported"),
        ("compression.ratio=2+3", r"compression: ratio has not one number for each merge"),
        ("compression.ratio={a: 2}", r"compression: ratio is not supported"),
        ("compression.at=1/4+", r"compression: '' is not a depth"),
        ("compression.att=1/4", r"unknown key 'att' in compression(.|\n)*did you mean 'at'"),
        ("compresion.at=1/4", r"unknown section 'compresion'(.|\n)*did you mean 'compression'"),
        ("sead=1", r"unknown key 'sead'(.|\n)*did you mean 'seed'"),
        ("stages.1.epoch=2", r"unknown key 'epoch' in stages\.1(.|\n)*did you mean 'epochs'"),
        ("stages.3.epochs=2", r"there is no stage '3'(.|\n)*1, 1\.5, 2-si, 2-ov"),
        ("stages.2si.epochs=2", r"there is no stage '2si'(.|\n)*did you mean '2-si'"),
        ("all_stages.worker=2", r"unknown key 'worker'(.|\n)*did you mean 'workers'"),
        ("seed", r"--set takes KEY=VALUE"),
        ("seed.x=1", r"'seed' has no keys inside"),
        ("stages.1.data.x=1", r"'stages\.1\.data' has no keys inside"),
        ("compression.at=]", r"is not YAML"),
        ("compression.at=3", r"depth 3 lies outside"),
        ("stages.1.tiling={max_rows: 2}", r"tiling and plain exclude each other"),
        ("stages.2-si.tiling.rows=2", r"unknown key 'rows' in stages\.2-si\.tiling(.|\n)*did you mean 'max_rows'"),
        ("stages.1.per_device_batch_size=7", r"global_batch_size is no multiple(.|\n)*1, 2, 4, 8"),
    ],
)
def test_wrong_overrides(override, message):
    with pytest.raises(LacoError, match=message):
        load_recipe(PAPER[0], [override])


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("stages.1.epoch", 2, r"unknown key 'epoch'(.|\n)*did you mean 'epochs'"),
        ("stages.1.learning_rates", {"projektor": 1e-3}, r"did you mean 'projector'"),
        ("stages.1.epochs", float("inf"), r"epochs must be above 0 and finite"),
        ("stages.1.max_broken", float("inf"), r"max_broken must be at least 0 and finite"),
        (
            "stages.1.learning_rates",
            {"projector": float("inf")},
            r"learning_rates\.projector must be above 0 and finite",
        ),
        ("seed", -3, r"seed is out of range"),
        ("stages.1.learning_rates", {"projector": -1}, r"learning_rates\.projector must be above 0"),
        ("stages.1.learning_rates", {"projector": 1e-9}, r"learning_rates\.projector lies below min_learning_rate"),
        ("stages.1.global_batch_size", "many", r"stages\.1\.global_batch_size must be of type int"),
        ("stages.1.global_batch_size", 0, r"stages\.1: global_batch_size must be a whole number"),
        ("stages.1.precision", "fp8", r"precision is unknown(.|\n)*fp32, bf16"),
        ("stages.3", {"data": "x"}, r"there is no stage '3'"),
        ("stages.1", {"plain": True}, r"stages\.1 lacks (data and )?learning_rates"),
        ("compression", {"at": "banana"}, "'banana' is not a depth"),
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
    recipe = recipe_from_mapping({**OWN, "stages": {1: values}}, source="own.yaml")
    assert recipe.stages["1"].learning_rates == {"projector": 1e-3}


@pytest.mark.parametrize("name", [*PAPER, "tiny"])
def test_the_resolved_recipe_is_a_recipe(name, tmp_path):
    recipe = load_recipe(name, ["compression.at=1/6", "all_stages.workers=2"])
    (tmp_path / "again.yaml").write_text(recipe_yaml(recipe, seed=5, stage="1.5"))
    again = load_recipe(str(tmp_path / "again.yaml"))
    assert again.seed == 5
    assert differing_keys(resolved_recipe(recipe), resolved_recipe(again)) == ["seed: 0 then, 5 now"]


def test_keys_of_the_machine_may_differ():
    then = {"recipe": resolved_recipe(load_recipe(PAPER[0]))}
    now = {"recipe": resolved_recipe(load_recipe(PAPER[0], ["all_stages.workers=9", "stages.1.5.epochs=2"]))}
    assert differing_keys(then, now) == ["recipe.stages.1.5.epochs: 1.0 then, 2.0 now"]


def test_batches_and_steps():
    stage = StageRecipe("d", {"projector": 1e-3}, global_batch_size=512, per_device_batch_size=8)
    assert [stage.accumulation(n) for n in (1, 2, 8, 64)] == [64, 32, 8, 1]
    with pytest.raises(
        LacoError, match=r"global_batch_size is no multiple(.|\n)*8 x 3(.|\n)*another number of processes"
    ):
        stage.accumulation(3)
    with pytest.raises(LacoError, match=r"per_device_batch_size 1, 2, 4"):
        stage.accumulation(128)
    assert stage.steps(558_128) == 1090  # of 1090.09 batches
    with pytest.raises(LacoError, match="does not fill one global_batch_size"):
        stage.steps(511)
    tenth = StageRecipe("d", {"projector": 1e-3}, epochs=0.1, global_batch_size=8)
    assert tenth.steps(240) == 3  # 30 · 0.1 is 3.0000000000000004


@pytest.mark.parametrize(("batch", "forward"), [(512, 8), (64, 8), (12, 6), (7, 7), (6, 6), (11, 1), (1, 1)])
def test_a_forward_pass_that_nobody_sized_fits_the_batch(batch, forward):
    stage = StageRecipe("d", {"projector": 1e-3}, global_batch_size=batch)
    assert stage.per_device_batch_size == forward and stage.accumulation(1) == batch // forward


@pytest.mark.parametrize(("batch", "count", "forward"), [(32, 8, 4), (4, 2, 2), (96, 8, 6), (512, 16, 8)])
def test_a_forward_pass_that_nobody_sized_fits_the_processes(monkeypatch, batch, count, forward):
    """As the launcher states them."""
    monkeypatch.setenv("WORLD_SIZE", str(count))
    stage = StageRecipe("d", {"projector": 1e-3}, global_batch_size=batch)
    assert stage.per_device_batch_size == forward and stage.accumulation(count) == batch // (forward * count)


def test_processes_that_cannot_share_a_batch_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(LacoError, match="another number of processes"):
        StageRecipe("d", {"projector": 1e-3}, global_batch_size=8).accumulation(3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "tyni"], "did you mean 'tiny'"),
        (["--recipe", "nowhere.yaml"], "there is no recipe"),
        (["--recipe", "tiny", "--stage", "3"], "there is no stage '3'"),
        (["--recipe", "tiny", "--set", "compression.ad=1"], "did you mean 'at'"),
        (["--recipe", "laco_aimv2_qwen2.5_0.5b", "--dry-run"], "model.encoder: there is no folder"),
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


def test_rates_follow_the_square_root_of_the_batch():
    """Made for 512, at 16: a thirty-second of the batch, 0.177 of the rates; near 512 they stay."""
    rates = {"projector": 1e-3, "language_model": 1e-5}
    options = {"data": "x.json", "learning_rates": rates, "rates_for_batch": 512}
    small = StageRecipe(**options, global_batch_size=16)
    assert small.fitting_rates() == {"projector": 1.8e-4, "language_model": 1.8e-6}
    assert StageRecipe(**options, global_batch_size=256).fitting_rates() == {}
    assert (
        StageRecipe(**options, global_batch_size=16, min_learning_rate=1e-5).fitting_rates()["language_model"] == 1e-5
    )
    assert StageRecipe(**options, global_batch_size=2048).fitting_rates() == {"projector": 2e-3, "language_model": 2e-5}
    assert StageRecipe(data="x.json", learning_rates=rates, global_batch_size=16).fitting_rates() == {}


def test_outputs_of_a_trained_encoder_cannot_be_kept():
    with pytest.raises(LacoError, match="keep_frozen_outputs"):
        StageRecipe("x.json", {"encoder": 1e-6}, keep_frozen_outputs=True)


def test_how_a_projector_may_start():
    with pytest.raises(LacoError, match="default, text_rms"):
        ModelRecipe(projector_start="text")


def test_how_a_merge_may_start():
    with pytest.raises(LacoError, match="merge_start is unknown") as caught:
        ModelRecipe(merge_start="zero")
    assert caught.value.allowed == "default, average"
