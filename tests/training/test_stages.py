"""Real optimiser steps through HF's Trainer: what a stage trains, what it leaves, and that it resumes exactly."""

import json
import resource
from contextlib import nullcontext
from dataclasses import replace
from random import Random
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from laco_export.errors import ConfigError, LacoError
from laco_export.models import LacoForConditionalGeneration, LacoProcessor, checkpoint
from laco_training import processes
from laco_training.look import joined_look
from laco_training.recipe import StageRecipe, TilingRecipe
from laco_training.stage_data import load_position, open_stage_data
from laco_training.stages import decide_resumption, train_stage
from laco_training.step_callbacks import DepthSampler, step_note
from laco_training.trainer import StageTrainer

RATES = {"encoder": 1e-3, "compressor": 2e-3, "projector": 1e-3, "language_model": 1e-3}
FIRST = {"compressor": 1e-3, "projector": 1e-3}


def stage(rates=RATES, **options):
    sizes = {"global_batch_size": 4, "per_device_batch_size": 2, "precision": "fp32", "max_length": 256}
    return StageRecipe(**{"data": "data.json", "learning_rates": rates, **sizes, **options})


def changed(before, after):
    """Names of the tensors that two checkpoints hold with different values."""
    old, new = (checkpoint.load(folder).model.state_dict() for folder in (before, after))
    return {name for name in new if name not in old or not torch.equal(old[name], new[name])}


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_stage_1_trains_the_merge_and_the_projector_alone(tiny_checkpoint, stage_data, tmp_path, optimizer):
    recipe = stage(FIRST, plain=True, optimizer=optimizer)
    losses = train_stage(tiny_checkpoint, recipe, stage_data, tmp_path / "out", seed=0, record="name: x")
    assert len(losses) == 4
    names = changed(tiny_checkpoint, tmp_path / "out")
    every = set(checkpoint.load(tiny_checkpoint).model.state_dict())
    assert names == {n for n in every if ".compressors." in n or n.startswith("projector.")}
    assert checkpoint.load(tmp_path / "out").model.config.untrained == []
    assert (tmp_path / "out" / "recipe.yaml").read_text() == "name: x"


def test_later_stages_train_every_tensor(tiny_checkpoint, stage_data, tmp_path):
    train_stage(tiny_checkpoint, stage(precision="bf16"), stage_data, tmp_path / "out", seed=0)
    assert changed(tiny_checkpoint, tmp_path / "out") == set(checkpoint.load(tiny_checkpoint).model.state_dict())


def test_tiles_come_with_a_newline_that_is_trained(tiny_checkpoint, stage_data, tmp_path):
    train_stage(tiny_checkpoint, stage(FIRST, plain=True), stage_data, tmp_path / "one", seed=0)
    assert checkpoint.load(tmp_path / "one").model.image_newline is None
    tiled = stage(tiling=TilingRecipe(max_rows=1, max_columns=2, max_tiles=2), max_length=512)
    train_stage(tmp_path / "one", tiled, stage_data, tmp_path / "two", seed=0)
    loaded = checkpoint.load(tmp_path / "two")
    assert loaded.processor.tiling == loaded.model.config.tiling
    assert loaded.model.config.tiling["tile"] == 56
    assert loaded.model.config.untrained == []
    assert "image_newline" in changed(tmp_path / "one", tmp_path / "two")


def test_like_llava_next_a_checkpoint_lays_out_pictures_as_llava_onevision(tiny_checkpoint, stage_data, tmp_path):
    tiled = stage(tiling=TilingRecipe(max_rows=1, max_columns=2, max_tiles=2), max_length=512, like="llava-next")
    assert len(train_stage(tiny_checkpoint, tiled, stage_data, tmp_path / "out", seed=0, steps=1)) == 1
    loaded = checkpoint.load(tmp_path / "out")
    assert loaded.model.config.token_layout == loaded.processor.token_layout == "llava_onevision"


def test_a_newline_that_no_stage_used_stays_untrained(tiny_checkpoint, stage_data, tmp_path):
    loaded = checkpoint.load(tiny_checkpoint)
    loaded.model.enable_tiling({"tile": 56})
    assert loaded.model.config.untrained == ["compressors", "projector", "image_newline"]
    checkpoint.save(loaded.model, LacoProcessor.for_model(loaded.model, loaded.processor.tokenizer), tmp_path / "new")
    train_stage(tmp_path / "new", stage(FIRST, plain=True), stage_data, tmp_path / "out", seed=0)
    assert checkpoint.load(tmp_path / "out").model.config.untrained == ["image_newline"]
    assert "image_newline" not in changed(tmp_path / "new", tmp_path / "out")


def test_a_checkpoint_that_names_no_padding_token(tiny_checkpoint, stage_data, tmp_path):
    """What fills a batch is masked: the losses are those of the tokenizer that names one."""
    loaded = checkpoint.load(tiny_checkpoint)
    loaded.processor.tokenizer.pad_token = None
    checkpoint.save(loaded.model, loaded.processor, tmp_path / "plain")
    assert checkpoint.load(tmp_path / "plain").processor.tokenizer.pad_token is None
    starts = (tiny_checkpoint, tmp_path / "plain")
    losses = [train_stage(start, stage(), stage_data, tmp_path / f"of {start.name}", seed=0) for start in starts]
    assert losses[0] == losses[1]


def test_the_seed_decides_the_result(tiny_checkpoint, stage_data, tmp_path):
    losses = [
        train_stage(tiny_checkpoint, stage(), stage_data, tmp_path / name, seed=seed)
        for name, seed in zip("abc", (1, 1, 2))
    ]
    assert losses[0] == losses[1] != losses[2]
    assert changed(tmp_path / "a", tmp_path / "b") == set()


@pytest.fixture
def elastic(tiny_checkpoint, tmp_path):
    loaded = checkpoint.load(tiny_checkpoint)
    parts = (loaded.model.vision_model.encoder, loaded.model.language_model)
    parts[1].config.attention_dropout = 0.2  # so that the random state decides the losses too
    model = LacoForConditionalGeneration.from_parts(
        *parts, image_token_id=loaded.processor.image_token_id, at=["1/2", "1"]
    )
    checkpoint.save(model, LacoProcessor.for_model(model, loaded.processor.tokenizer), tmp_path / "elastic")
    return tmp_path / "elastic"


class Interrupted(BaseException):
    """What a killed process leaves is what one leaves that stops here."""


def interrupting(at):
    """A progress bar that stops the training at optimiser step ``at``."""
    done = [0]

    def advance(steps, **_):
        done[0] += steps
        if done[0] == at:
            raise Interrupted

    return lambda steps: nullcontext(advance)


def test_progress_is_told_of_every_step_with_its_loss_and_rates(tiny_checkpoint, stage_data, tmp_path):
    told = []
    rates = {"compressor": 2e-3, "projector": 1e-3}
    losses = train_stage(
        tiny_checkpoint,
        stage(rates, plain=True),
        stage_data,
        tmp_path / "out",
        seed=0,
        shown=lambda steps: nullcontext(lambda done, note=None: told.append((done, note))),
    )
    assert told[0] == (0, None)  # training begins
    assert [done for done, note in told if note is None] == [0, 1, 1, 1, 1]
    notes = [note for _, note in told if note is not None]
    assert [note.split(",")[0] for note in notes] == [f"loss {loss:.3f}" for loss in losses]
    assert notes[0].endswith("learning rates 0.0005 to 0.001")  # half-way up: one step warms up


def test_a_note_of_one_rate():
    assert step_note(2.3456, [5e-5, 5e-5]) == "loss 2.346, learning rate 5e-05"


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_resumed_stage_is_the_uninterrupted_one(elastic, stage_data, tmp_path, optimizer):
    """Two and a half passes of four steps, killed in the second; several depths, so that their draw resumes too."""
    recipe = stage(epochs=2.5, save_every=3, optimizer=optimizer, max_grad_norm=0.5, weight_decay=0.1)
    whole = train_stage(elastic, recipe, stage_data, tmp_path / "whole", seed=0)
    assert len(whole) == 10
    kill_at = Random(optimizer).randint(4, 9)
    with pytest.raises(Interrupted):
        train_stage(elastic, recipe, stage_data, tmp_path / "killed", seed=0, shown=interrupting(kill_at))
    assert not (tmp_path / "killed").exists()
    with pytest.raises(LacoError, match=r"was interrupted(.|\n)*--resume"):
        train_stage(elastic, recipe, stage_data, tmp_path / "killed", seed=0)
    resumed = train_stage(elastic, recipe, stage_data, tmp_path / "killed", seed=0, resume=True)
    assert resumed == whole  # bit for bit
    assert changed(tmp_path / "whole", tmp_path / "killed") == set()
    assert not (tmp_path / "killed-progress").exists()


def test_a_stage_that_has_nothing_to_resume_says_so(tmp_path, capsys):
    (tmp_path / "out-progress" / "checkpoint-3").mkdir(parents=True)  # killed while it was written
    assert decide_resumption(tmp_path / "out-progress", resume=False, force=False) is None
    assert capsys.readouterr().err == ""
    assert decide_resumption(tmp_path / "out-progress", resume=True, force=False) is None
    assert "out-progress' holds no checkpoint to go on from" in " ".join(capsys.readouterr().err.split())


def test_a_resumed_stage_keeps_its_global_batch_with_other_machine_keys(
    tiny_checkpoint, stage_data, tmp_path, monkeypatch
):
    """Half as many samples a forward pass, and a checkpoint after every step: the same samples in every step."""
    taken, saved = [], []
    take, save = StageTrainer._take, StageTrainer._save_checkpoint

    def taking(self, batch):
        taken.append((self.state.global_step, sorted(batch["notes"].ids)))
        return take(self, batch)

    def saving(self, *args):
        saved.append(self.state.global_step)
        return save(self, *args)

    monkeypatch.setattr(StageTrainer, "_take", taking)
    monkeypatch.setattr(StageTrainer, "_save_checkpoint", saving)
    recipe = stage(epochs=2, save_every=3)
    whole = train_stage(tiny_checkpoint, recipe, stage_data, tmp_path / "whole", seed=0)
    expected = [sorted(name for at, own in taken if at == step for name in own) for step in range(8)]
    with pytest.raises(Interrupted):
        train_stage(tiny_checkpoint, recipe, stage_data, tmp_path / "killed", seed=0, shown=interrupting(4))
    taken.clear(), saved.clear()
    changed_keys = stage(epochs=2, save_every=1, per_device_batch_size=1)
    resumed = train_stage(tiny_checkpoint, changed_keys, stage_data, tmp_path / "killed", seed=0, resume=True)
    steps = range(3, 8)
    assert [sum(at == step for at, _ in taken) for step in steps] == [4] * 5
    for step in steps:
        assert sorted(name for at, own in taken if at == step for name in own) == expected[step]
    assert resumed == pytest.approx(whole, abs=1e-4)
    assert saved == [4, 5, 6, 7]


@pytest.mark.parametrize("grown", ["data", "mixture", "start"])
def test_a_stage_is_not_resumed_on_other_data_or_from_another_start(
    tiny_checkpoint, stage_data, make_tiny_model, make_tiny_checkpoint, tmp_path, grown
):
    entries = json.loads((stage_data / "data.json").read_text())

    def write(used):
        (tmp_path / "few.json").write_text(json.dumps(entries[:used]))
        (tmp_path / "data.yaml").write_text("datasets: [{json_path: few.json, sampling_strategy: 'first:12'}]")

    write(14)
    recipe = stage(
        epochs=3, save_every=3, data="data.yaml" if grown == "mixture" else "few.json", images=str(stage_data)
    )
    with pytest.raises(Interrupted):
        train_stage(tiny_checkpoint, recipe, tmp_path, tmp_path / "out", seed=0, shown=interrupting(4))
    start = tiny_checkpoint
    if grown == "start":
        model = make_tiny_model()
        model.projector.linear_1.weight.data += 1
        start = make_tiny_checkpoint(model, tmp_path / "other")
    else:
        write(16)
    said = {
        "data": r"data of this stage is not what it was(.|\n)*few\.json: 16 of 16 samples\n(.|\n)*: 14 of 14 samples",
        "mixture": r"data of this stage is not what it was(.|\n)*few\.json: 12 of 16 samples",
        "start": "the checkpoint that this stage starts from is not what it was",
    }
    with pytest.raises(LacoError, match=said[grown]):
        train_stage(start, recipe, tmp_path, tmp_path / "out", seed=0, resume=True)
    write(14)
    assert len(train_stage(tiny_checkpoint, recipe, tmp_path, tmp_path / "out", seed=0, resume=True)) == 9


def test_a_stream_is_not_resumed_by_more_processes(tiny_checkpoint, stage_data, tmp_path, monkeypatch):
    recipe = parquet_recipe(stage_data, tmp_path)
    with pytest.raises(Interrupted):
        train_stage(tiny_checkpoint, recipe, tmp_path, tmp_path / "out", seed=0, shown=interrupting(3))
    monkeypatch.setattr(processes, "join", lambda: SimpleNamespace(process_index=1, num_processes=2))
    dataset = open_stage_data(recipe, checkpoint.load(tiny_checkpoint).processor, tmp_path, seed=0)
    with pytest.raises(LacoError, match=r"another number of processes(.|\n)*given: +2(.|\n)*allowed: +1"):
        load_position(dataset, tmp_path / "out-progress" / "checkpoint-2")


def test_a_checkpoint_that_was_not_finished_is_not_resumed_from(tiny_checkpoint, stage_data, tmp_path):
    recipe = stage(epochs=2.5, save_every=3)
    with pytest.raises(Interrupted):
        train_stage(tiny_checkpoint, recipe, stage_data, tmp_path / "out", seed=0, shown=interrupting(8))
    folder = tmp_path / "out-progress"
    assert [path.name for path in folder.glob("checkpoint-*")] == ["checkpoint-6"]
    partial = folder / "checkpoint-7"
    partial.mkdir()
    (partial / "model.safetensors").write_bytes(b"half")
    assert len(train_stage(tiny_checkpoint, recipe, stage_data, tmp_path / "out", seed=0, resume=True)) == 10


def test_what_pictures_were_worth_is_logged_and_kept(tiny_checkpoint, stage_data, tmp_path):
    """Every third step and the last; the checkpoint says what the last quarter of them come to."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recipe = stage(FIRST, plain=True, epochs=4, look_every=3, global_batch_size=8, per_device_batch_size=4)
    losses = train_stage(tiny_checkpoint, recipe, stage_data, tmp_path / "o", seed=0, tensorboard=tmp_path / "board")
    record = json.loads((tmp_path / "o" / "looks.json").read_text())
    assert [look["step"] for look in record["looks"]] == [1, 4, 7, 8] and len(losses) == 8
    at_the_end = joined_look(record["looks"][-1:])
    assert record["at_the_end"] == {"block 1": {**at_the_end.to_dict(), "verdict": at_the_end.verdict()}}
    events = EventAccumulator(str(tmp_path / "board")).Reload()
    for name in ("worth", "rms_over_text", "between_tiles"):
        logged = [event.value for event in events.Scalars(f"train/look/{name}")]
        assert logged == pytest.approx([look[name] for look in record["looks"]], rel=1e-5)


def test_each_depth_has_a_verdict_of_its_own(elastic, stage_data, tmp_path):
    """Of an elastic run a look is one of the depth that its step merged at."""
    train_stage(elastic, stage(look_every=1, epochs=4, global_batch_size=8), stage_data, tmp_path / "o", seed=2)
    record = json.loads((tmp_path / "o" / "looks.json").read_text())
    blocks = {look["block"] for look in record["looks"]}
    assert len(blocks) > 1 and set(record["at_the_end"]) == {f"block {block}" for block in blocks}
    for block in blocks:
        own = [look for look in record["looks"] if look["block"] == block]
        last = joined_look(own[-max(1, round(len(own) / 4)) :])
        assert record["at_the_end"][f"block {block}"]["worth"] == last.worth


def test_sharded_weights_are_not_looked_at(tiny_checkpoint, stage_data, tmp_path, monkeypatch):
    """Processes would gather weights for passes that others do not make."""
    monkeypatch.setattr(processes, "shards_weights", lambda: True)
    train_stage(tiny_checkpoint, stage(look_every=1), stage_data, tmp_path / "o", seed=0)
    assert not (tmp_path / "o" / "looks.json").exists()


def test_looking_changes_no_loss(tiny_checkpoint, stage_data, tmp_path):
    losses = [
        train_stage(tiny_checkpoint, stage(look_every=every), stage_data, tmp_path / str(every), seed=0)
        for every in (0, 1)
    ]
    assert losses[0] == losses[1]
    assert not (tmp_path / "0" / "looks.json").exists() and (tmp_path / "1" / "looks.json").exists()


def test_elastic_depth_trains_every_compressor(elastic, stage_data, tmp_path):
    train_stage(elastic, stage(epochs=2), stage_data, tmp_path / "out", seed=0)
    names = changed(elastic, tmp_path / "out")
    for block in (1, 2):
        assert any(f"compressors.block_{block}." in name for name in names)


def test_an_elastic_run_trains_every_merge_of_every_path(tiny_checkpoint, stage_data, tmp_path):
    """Two paths that begin behind the same block: each has its own merges, and its own looks."""
    loaded = checkpoint.load(tiny_checkpoint)
    parts = (loaded.model.vision_model.encoder, loaded.model.language_model)
    paths = {"at": ["1/2", "1/2+1"], "ratio": [4, 2]}
    model = LacoForConditionalGeneration.from_parts(*parts, image_token_id=loaded.processor.image_token_id, **paths)
    checkpoint.save(model, LacoProcessor.for_model(model, loaded.processor.tokenizer), tmp_path / "paths")
    train_stage(tmp_path / "paths", stage(epochs=2, look_every=1), stage_data, tmp_path / "out", seed=9)
    names = changed(tmp_path / "paths", tmp_path / "out")
    for merge, _ in model.vision_model.all_merges():
        assert any(f"compressors.{merge}." in name for name in names), merge
    looks = json.loads((tmp_path / "out" / "looks.json").read_text())
    assert list(looks["at_the_end"]) == ["block 1", "block 1+2"]
    drawn = [Random(f"9 depth {look['step'] - 1}").choice((1, "1+2")) for look in looks["looks"]]
    assert [look["block"] for look in looks["looks"]] == drawn


def test_depths_of_different_tokens_are_no_stage_on_conversations(tiny_checkpoint, stage_data, tmp_path):
    loaded = checkpoint.load(tiny_checkpoint)
    parts = (loaded.model.vision_model.encoder, loaded.model.language_model)
    at, image_token = ["1/2", "1/2+1"], loaded.processor.image_token_id
    model = LacoForConditionalGeneration.from_parts(*parts, image_token_id=image_token, at=at)
    checkpoint.save(model, LacoProcessor.for_model(model, loaded.processor.tokenizer), tmp_path / "paths")
    with pytest.raises(ConfigError, match=r"do not leave a picture the same tokens(.|\n)*1/2 2 x 2, 1/2\+1 1 x 1"):
        train_stage(tmp_path / "paths", stage(), stage_data, tmp_path / "out", seed=0)
    for depth, tokens in zip(at, (4, 1)):
        at_depth = checkpoint.load(tmp_path / "paths").at_depth(depth)
        inputs = at_depth.processor(images=[Image.new("RGB", (56, 56))], text="<image>", return_tensors="pt")
        assert int((inputs["input_ids"] == image_token).sum()) == tokens
        assert at_depth.model(**inputs).logits.isfinite().all()


def test_the_depth_of_a_step_depends_on_seed_and_step_alone(elastic):
    vision = checkpoint.load(elastic).model.vision_model
    state = type("State", (), {})()
    drawn = []
    for step in range(40):
        state.global_step = step
        DepthSampler(vision, seed=3).on_step_begin(None, state, None)
        drawn.append(vision.block)
    assert drawn == [Random(f"3 depth {step}").choice((1, 2)) for step in range(40)]
    assert 8 < drawn.count(1) < 32


def test_the_learning_rate_of_every_group_and_the_metrics(tiny_checkpoint, stage_data, tmp_path):
    """As TensorBoard gets them, at the start, in the middle and at the end."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    rates = {"encoder": 2e-6, "compressor": 1e-5, "projector": 1e-5, "language_model": 1e-5}
    recipe = stage(rates, epochs=26 / 4, warmup_ratio=0.1)
    losses = train_stage(tiny_checkpoint, recipe, stage_data, tmp_path / "o", seed=0, tensorboard=tmp_path / "board")
    events = EventAccumulator(str(tmp_path / "board")).Reload()
    assert [event.value for event in events.Scalars("train/loss")] == pytest.approx(losses)
    for name, peak in rates.items():
        logged = [event.value for event in events.Scalars(f"train/learning_rate/{name}")]
        assert len(logged) == 26
        assert logged[0] == pytest.approx(peak / 4, rel=1e-5)  # the first of three steps of warm-up
        assert max(logged) == logged[3] == pytest.approx(peak, rel=1e-5)
        assert logged[14] == pytest.approx((peak + 1e-7) / 2, rel=1e-5)
        assert logged[-1] == pytest.approx(1e-7, rel=1e-5)  # every group's floor, the encoder's too
    for name in ("grad_norm", "tokens_per_second", "samples_per_second", "peak_memory_gib"):
        assert all(event.value > 0 for event in events.Scalars(f"train/{name}"))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("picture", [False, True])
def test_samples_as_long_as_the_context_allows(tiny_checkpoint, stage_data, tmp_path, packed, picture):
    """Rows are wider than the context where samples are packed, and where a blank picture stands behind a text."""
    turns = [{"from": "human", "value": "<image>\nq" if picture else "q"}, {"from": "gpt", "value": "x" * 1000}]
    entry = {"conversations": turns, **({"image": str(stage_data / "0.png")} if picture else {})}
    (tmp_path / "data.json").write_text(json.dumps([entry] * 4))
    recipe = stage(epochs=1, max_length=512, packed=packed)
    assert len(train_stage(tiny_checkpoint, recipe, tmp_path, tmp_path / "out", seed=0)) == 1


def test_a_max_length_beyond_the_context(tiny_checkpoint, stage_data, tmp_path):
    with pytest.raises(LacoError, match=r"max_length is beyond(.|\n)*513(.|\n)*at most 512"):
        train_stage(tiny_checkpoint, stage(max_length=513), stage_data, tmp_path / "out", seed=0)


def test_too_few_samples(tiny_checkpoint, stage_data, tmp_path):
    with pytest.raises(LacoError, match=r"does not fill one global_batch_size(.|\n)*16 samples, global_batch_size 32"):
        train_stage(tiny_checkpoint, stage(global_batch_size=32), stage_data, tmp_path / "out", seed=0)
    assert not (tmp_path / "out").exists()


def test_a_loss_that_is_no_number_names_the_samples(tiny_checkpoint, stage_data, tmp_path, monkeypatch):
    spoil(monkeypatch, lambda: float("nan"))
    with pytest.raises(LacoError, match=r"the loss of step 1 is nan(.|\n)*samples 's\d+', 's\d+'\n"):
        train_stage(tiny_checkpoint, stage(), stage_data, tmp_path / "out", seed=0)
    assert not (tmp_path / "out").exists()


def test_a_gradient_that_is_no_number_names_the_samples_of_its_step(tiny_checkpoint, stage_data, tmp_path, monkeypatch):
    class Backward(torch.autograd.Function):
        forward = staticmethod(lambda context, value: value.clone())
        backward = staticmethod(lambda context, gradient: gradient * float("inf"))

    original = LacoForConditionalGeneration.get_image_features
    monkeypatch.setattr(
        LacoForConditionalGeneration, "get_image_features", lambda self, pixels: Backward.apply(original(self, pixels))
    )
    with pytest.raises(LacoError, match=r"the gradient of step 1 is (nan|inf)(.|\n)*samples ('s\d+', ){3}'s\d+'\n"):
        train_stage(tiny_checkpoint, stage(), stage_data, tmp_path / "out", seed=0)


def test_running_out_of_memory_names_the_samples(tiny_checkpoint, stage_data, tmp_path, monkeypatch):
    spoil(monkeypatch, lambda: torch.empty(2**60, dtype=torch.uint8))
    message = (
        r"out of memory at step 1(.|\n)*samples 's\d+', 's\d+': 2 x \d+ tokens, \d tiles(.|\n)*per_device_batch_size"
    )
    with pytest.raises(LacoError, match=message):
        train_stage(tiny_checkpoint, stage(), stage_data, tmp_path / "out", seed=0)


def test_running_out_of_memory_in_the_optimizer(tiny_checkpoint, stage_data, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda *_, **__: torch.empty(2**60, dtype=torch.uint8))
    with pytest.raises(LacoError, match=r"out of memory at step 1, in the optimizer(.|\n)*adamw on encoder, comp"):
        train_stage(tiny_checkpoint, stage(), stage_data, tmp_path / "out", seed=0)


@pytest.mark.parametrize("share", [0.5, 1.5])
def test_a_checkpoint_that_cannot_be_written(tiny_checkpoint, stage_data, tmp_path, share):
    """No file may grow beyond a share of the weights' size: safetensors stops in them, PyTorch in the optimizer."""
    size = (tiny_checkpoint / "model.safetensors").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(size * share), before[1]))
        with pytest.raises(LacoError, match=r"checkpoint of step 1 cannot be written(.|\n)*free some space"):
            train_stage(tiny_checkpoint, stage(save_every=1), stage_data, tmp_path / "out", seed=0)
        with pytest.raises(LacoError, match=r"cannot be written") if share < 1 else nullcontext():
            train_stage(tiny_checkpoint, stage(), stage_data, tmp_path / "whole", seed=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not (tmp_path / "out").exists() and (tmp_path / "whole").exists() == (share > 1)


def test_as_many_steps_as_told_of_a_stream_by_url(tiny_checkpoint, stage_data, tmp_path):
    """As ``--fake-quant`` trains."""
    recipe = replace(parquet_recipe(stage_data, tmp_path), data=f"file://{tmp_path}/rows.parquet")
    assert len(train_stage(tiny_checkpoint, recipe, tmp_path, tmp_path / "out", seed=0, steps=3)) == 3


def test_the_samples_of_a_step_wait_in_main_memory(tiny_checkpoint, stage_data, tmp_path, monkeypatch):
    """A loader that has a device puts every batch there as it is read, and a step reads all of its batches first."""
    loaders, get = [], StageTrainer.get_train_dataloader
    monkeypatch.setattr(
        StageTrainer, "get_train_dataloader", lambda self: loaders.append((self, get(self))) or loaders[-1][1]
    )
    train_stage(tiny_checkpoint, stage(), stage_data, tmp_path / "out", seed=0)
    ((trainer, loader),) = loaders
    assert loader.device is None and trainer.accelerator.device_placement


def spoil(monkeypatch, make):
    """Multiply the model's loss by what ``make`` gives, after it has tried to make it."""
    original = LacoForConditionalGeneration.forward

    def forward(self, *args, **kwargs):
        outputs = original(self, *args, **kwargs)
        outputs.loss = outputs.loss * make()
        return outputs

    monkeypatch.setattr(LacoForConditionalGeneration, "forward", forward)


def test_what_a_stage_before_left_of_zero_3_is_cleared(tiny_checkpoint, stage_data, tmp_path):
    """transformers builds models from empty shards while an earlier stage's DeepSpeed configuration is known."""
    from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled, set_hf_deepspeed_config

    left = type("Left", (), {"is_zero3": lambda self: True})()
    set_hf_deepspeed_config(left)
    assert is_deepspeed_zero3_enabled()
    assert len(train_stage(tiny_checkpoint, stage(), stage_data, tmp_path / "out", seed=0)) == 4


def test_broken_data_is_named_with_its_key(tiny_checkpoint, tmp_path):
    (tmp_path / "data.json").write_text(json.dumps([]))
    with pytest.raises(LacoError, match=r"data\.json"):
        train_stage(tiny_checkpoint, stage(), tmp_path, tmp_path / "out", seed=0)


def parquet_recipe(stage_data, folder):
    """The samples as published parquet, pictures inside, read as it comes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = json.loads((stage_data / "data.json").read_text())
    for row in rows:
        path = stage_data / row.get("image", "none")
        row["image"] = {"bytes": path.read_bytes(), "path": path.name} if path.is_file() else None
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")
    return stage(data="rows.parquet", epochs=1.5, streaming=True, shuffle_buffer=8, save_every=2)


def test_a_resumed_stream_is_the_uninterrupted_one(tiny_checkpoint, stage_data, tmp_path):
    """The position is part of the checkpoint."""
    recipe = parquet_recipe(stage_data, tmp_path)
    whole = train_stage(tiny_checkpoint, recipe, tmp_path, tmp_path / "whole", seed=0)
    assert len(whole) == 6
    with pytest.raises(Interrupted):
        train_stage(tiny_checkpoint, recipe, tmp_path, tmp_path / "killed", seed=0, shown=interrupting(5))
    assert train_stage(tiny_checkpoint, recipe, tmp_path, tmp_path / "killed", seed=0, resume=True) == whole
