"""The stage ``distil`` from folder to folder: exact, resumable, and clear about what it cannot use."""

import json
import shutil

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from laco_export.errors import CheckpointError, ConfigError, LacoError, UsageError
from laco_export.models import checkpoint
from laco_training import processes
from laco_training.data import DataError
from laco_training.distillation.stage import distil_stage, price_lines
from laco_training.recipe import CompressionRecipe

HALF = CompressionRecipe(at=["1/2"])
ELASTIC = CompressionRecipe(at=["1/2", "1"])


def record(folder):
    return json.loads((folder / "distillation.json").read_text())


def scalars(folder):
    """TensorBoard's values by name."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return {name: [event.value for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_a_student_comes_nearer_and_keeps_the_rest_bit_for_bit(teacher_folder, pictures, make_stage, tmp_path):
    stage = make_stage(max_steps=25, distillation={"blocks": 0.5, "price_every": 10})
    arguments = (teacher_folder, ELASTIC, stage, pictures, tmp_path / "out")
    losses = distil_stage(*arguments, seed=0, record="name: x", tensorboard=tmp_path / "board")
    assert len(losses) == 25
    logged = scalars(tmp_path / "board")
    assert logged["train/loss"] == pytest.approx(losses)
    assert logged["train/learning_rate/encoder"][:4] == pytest.approx([0, 0, 5e-4, 1e-3])  # it joins in after two
    assert logged["train/learning_rate/compressor"][0] > 0 and len(logged["train/distil/cosine"]) == 25
    described = record(tmp_path / "out")
    assert described["before"].keys() == described["after"].keys() == {"1/2", "1"}
    for depth, before in described["before"].items():
        assert described["after"][depth]["relative_error"] < 0.9 * before["relative_error"]
        assert described["after"][depth]["cosine"] > before["cosine"]
        assert before["pictures"] == 4
    assert [place["step"] for place in described["on_the_way"]] == [10, 20]
    assert price_lines(described)[0].startswith("merged at 1/2: relative error 0.")
    student = checkpoint.load(tmp_path / "out")
    assert student.model.config.untrained == ["projector"]  # the tiny teacher's own is not trained either
    assert student.processor.image_seq_length == student.model.tokens_per_image == 4
    assert (tmp_path / "out" / "recipe.yaml").read_text() == "name: x"
    stored, own = (load_file(folder / "model.safetensors") for folder in (teacher_folder, tmp_path / "out"))
    for name, tensor in stored.items():
        if name.startswith("language_model.") or ".layers.0." in name or ".layers.1." in name:
            assert own[name].dtype == tensor.dtype == torch.bfloat16 and torch.equal(own[name], tensor), name
    moved = own["vision_model.encoder.encoder.layers.3.attention.q_proj.weight"]
    assert moved.dtype == torch.float32


def test_the_price_before_is_that_of_averages(teacher_folder, pictures, make_stage, tmp_path):
    """On pictures held out, whole, by the two models themselves."""
    from laco_export.models.merging import merge_inside
    from laco_training.distillation.data import open_stage_pictures
    from laco_training.distillation.losses import feature_errors
    from laco_training.distillation.pooling import average_windows

    stage = make_stage(max_steps=1)
    distil_stage(teacher_folder, HALF, stage, pictures, tmp_path / "out", seed=3)
    loaded = checkpoint.load(teacher_folder)
    _, aside = open_stage_pictures(stage, loaded.processor, pictures, seed=3)
    pixels = torch.cat([aside[place]["pixel_values"] for place in range(len(aside))])
    with torch.no_grad():
        student = merge_inside(loaded.model, "1/2").get_image_features(pixels)
        teacher = average_windows(loaded.model.get_image_features(pixels), (4, 4), [2])
    expected = feature_errors(student, teacher).mean().item()
    assert record(tmp_path / "out")["before"]["1/2"]["relative_error"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("precision", "kill_at"), [("fp32", 4), ("bf16", 7)])
def test_a_resumed_stage_is_the_uninterrupted_one(
    teacher_folder, pictures, make_stage, interrupting, tmp_path, precision, kill_at
):
    """Killed before the later blocks join in or after; depths, crops and flips are drawn alike."""
    stage = make_stage(
        max_steps=10, save_every=3, precision=precision, distillation={"merge_first": 0.5, "flips": True}
    )
    arguments = (teacher_folder, ELASTIC, stage, pictures)
    whole = distil_stage(*arguments, tmp_path / "whole", seed=0)
    killed = tmp_path / "killed"
    with pytest.raises(interrupting.raised):
        distil_stage(*arguments, killed, seed=0, shown=interrupting(kill_at))
    assert not killed.exists()
    with pytest.raises(UsageError, match=r"was interrupted(.|\n)*--resume"):
        distil_stage(*arguments, killed, seed=0)
    assert distil_stage(*arguments, killed, seed=0, resume=True) == whole  # bit for bit
    states = [checkpoint.load(folder).model.state_dict() for folder in (tmp_path / "whole", killed)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert record(killed) == record(tmp_path / "whole")


def test_a_stage_is_not_resumed_on_other_pictures(teacher_folder, pictures, make_stage, interrupting, tmp_path):
    stage = make_stage(max_steps=3, save_every=1)
    with pytest.raises(interrupting.raised):
        distil_stage(teacher_folder, HALF, stage, pictures, tmp_path / "out", seed=0, shown=interrupting(2))
    shutil.copytree(pictures, tmp_path / "grown")
    Image.new("RGB", (60, 60), "red").save(tmp_path / "grown" / "pictures" / "new.png")
    with pytest.raises(UsageError, match=r"data of this stage is not what it was(.|\n)*37 of 41(.|\n)*36 of 40"):
        distil_stage(teacher_folder, HALF, stage, tmp_path / "grown", tmp_path / "out", seed=0, resume=True)


def test_a_window_outside_goes_in_and_what_is_written_is_what_was_trained(
    make_tiny_model, make_tiny_checkpoint, pictures, make_stage, tmp_path
):
    """InternVL's way: the projector folded over one token has tensors of the old shape and other values."""
    model = make_tiny_model("internvit", blocks=4, method=None, projector={"norm": True, "window": 2})
    with torch.no_grad():
        model.projector.norm.bias.normal_()
    teacher = make_tiny_checkpoint(model, tmp_path / "teacher")
    distil_stage(teacher, HALF, make_stage(max_steps=3), pictures, tmp_path / "out", seed=0)
    written, pixels = checkpoint.load(tmp_path / "out").model, torch.randn(2, 3, 56, 56)
    stage = make_stage({"compressor": 1e-9}, {"merge_first": 1.0}, max_steps=1, min_learning_rate=0.0)
    distil_stage(teacher, HALF, stage, pictures, tmp_path / "again", seed=0, student=tmp_path / "out")
    assert record(tmp_path / "again")["before"]["1/2"] == pytest.approx(
        record(tmp_path / "out")["after"]["1/2"], rel=1e-5
    )
    assert written.get_image_features(pixels).shape == model.get_image_features(pixels).shape == (2, 4, 48)


def test_the_merge_is_trained_first_and_alone(teacher_folder, pictures, make_stage, tmp_path):
    stage = make_stage(max_steps=4, distillation={"merge_first": 1.0})
    distil_stage(teacher_folder, HALF, stage, pictures, tmp_path / "out", seed=0)
    before, after = (checkpoint.load(folder).model.state_dict() for folder in (teacher_folder, tmp_path / "out"))
    assert all(torch.equal(after[name], before[name]) for name in before)  # and merges came
    assert after["vision_model.compressors.block_2.mlp.linear_2.weight"].any()


def test_blocks_can_be_taught_behind_averages_that_stay(teacher_folder, pictures, make_stage, tmp_path):
    """Then nothing waits for the merge."""
    stage = make_stage({"encoder": 1e-3}, {"merge_first": 0.5}, max_steps=2)
    distil_stage(teacher_folder, HALF, stage, pictures, tmp_path / "out", seed=0)
    after = checkpoint.load(tmp_path / "out").model
    assert not after.vision_model.compressors.block_2.mlp.linear_2.weight.any()
    assert "compressors" in after.config.untrained
    before = checkpoint.load(teacher_folder).model.state_dict()
    name = "vision_model.encoder.encoder.layers.3.attention.q_proj.weight"
    assert not torch.equal(after.state_dict()[name], before[name])


def test_conversations_teach_by_the_language_models_predictions(teacher_folder, pictures, make_stage, tmp_path):
    turns = lambda index: [
        {"from": "human", "value": "<image>\nWhat?"},
        {"from": "gpt", "value": "ab" * (1 + index % 3)},
    ]
    entries = [{"id": str(i), "image": f"pictures/{i}.png", "conversations": turns(i)} for i in range(36)]
    entries += [{"id": "text", "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}]
    (tmp_path / "data.json").write_text(json.dumps(entries))
    stage = make_stage(
        {"compressor": 2e-3, "encoder": 1e-3, "language_model": 1e-3, "projector": 1e-3},
        {"language_model": 1.0, "held_out": 3},
        data="data.json",
        images=str(pictures),
        max_steps=6,
    )
    losses = distil_stage(teacher_folder, HALF, stage, tmp_path, tmp_path / "out", seed=0)
    assert len(losses) == 6 and losses[-1] < losses[0]
    model = checkpoint.load(tmp_path / "out").model
    assert not torch.equal(model.language_model.model.norm.weight, torch.ones(48))
    assert model.config.untrained == []
    (tmp_path / "text.json").write_text(json.dumps(entries[-1:]))
    with pytest.raises(DataError, match=r"no sample of .* is a conversation about one picture"):
        distil_stage(
            teacher_folder, HALF, make_stage(distillation={"language_model": 1.0}, data="text.json"), tmp_path,
            tmp_path / "no", seed=0,
        )  # fmt: skip


@pytest.fixture
def broken(pictures, tmp_path):
    """The pictures, of which three cannot be read."""
    shutil.copytree(pictures, tmp_path / "data")
    for name in ("3.png", "17.png", "30.png"):
        (tmp_path / "data" / "pictures" / name).write_bytes(b"no picture")
    return tmp_path / "data"


def test_broken_pictures_are_counted_and_named(teacher_folder, broken, make_stage, tmp_path):
    with pytest.raises(DataError, match=r"max_broken allows 0(.|\n)*(3|17|30)\.png"):
        distil_stage(teacher_folder, HALF, make_stage(epochs=1), broken, tmp_path / "out", seed=0)
    assert not (tmp_path / "out").exists()
    stage = make_stage(epochs=2, max_broken=0.1)
    assert len(distil_stage(teacher_folder, HALF, stage, broken, tmp_path / "out", seed=0, force=True)) == 8
    named = (tmp_path / "out-broken-samples.jsonl").read_text().splitlines()
    assert {json.loads(line)["id"] for line in named} == {"3.png", "17.png", "30.png"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"data": "nothing"}, "there are no pictures at"),
        ({"data": "empty"}, "there are no pictures in"),
        ({"data": "few"}, r"too few pictures to hold any out(.|\n)*3 pictures"),
        ({"global_batch_size": 40}, r"does not fill one global_batch_size(.|\n)*36 samples"),
        ({"data": "readme.md"}, "of no known kind"),
    ],
)
def test_pictures_that_are_not_enough(teacher_folder, pictures, make_stage, tmp_path, options, said):
    shutil.copytree(pictures, tmp_path / "data")
    (tmp_path / "data" / "empty").mkdir()
    (tmp_path / "data" / "readme.md").write_text("no pictures")
    (tmp_path / "data" / "few").mkdir()
    for index in range(3):
        shutil.copy(pictures / "pictures" / f"{index}.png", tmp_path / "data" / "few")
    with pytest.raises(LacoError, match=said):
        distil_stage(teacher_folder, HALF, make_stage(**options), tmp_path / "data", tmp_path / "out", seed=0)
    assert not (tmp_path / "out").exists()


def test_teachers_that_cannot_teach(
    tiny_checkpoint, teacher_folder, make_tiny_model, make_tiny_checkpoint, pictures, make_stage, tmp_path, monkeypatch
):
    def refused(teacher, compression=HALF, **options):
        with pytest.raises((CheckpointError, ConfigError, UsageError)) as refusal:
            distil_stage(teacher, compression, make_stage(max_steps=1), pictures, tmp_path / "out", seed=0, **options)
        return str(refusal.value)

    assert "the model has merges inside already" in refused(tiny_checkpoint)
    assert "different towers" in refused(teacher_folder, student=tiny_checkpoint)
    assert "no merge to be taught" in refused(teacher_folder, student=teacher_folder)
    assert "starts as the average" in refused(teacher_folder, CompressionRecipe(method="ldpv2"))
    broken = make_tiny_model(blocks=4, method=None)
    broken.projector.linear_2.bias.data[5] = float("nan")
    assert "inf or NaN in projector.linear_2.bias" in refused(make_tiny_checkpoint(broken, tmp_path / "broken"))
    monkeypatch.setattr(processes, "shards_weights", lambda: True)
    assert "does not go with FSDP or DeepSpeed" in refused(teacher_folder)
