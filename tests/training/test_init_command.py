"""``laco-train init`` from folders on disk."""

import json
import shutil

import pytest

from laco_export.models import checkpoint
from laco_training.init_command import main


@pytest.fixture(scope="module")
def parts(tiny_checkpoint, tmp_path_factory):
    """Folders of a tiny encoder and a tiny language model with its tokenizer."""
    folder = tmp_path_factory.mktemp("parts")
    loaded = checkpoint.load(tiny_checkpoint)
    loaded.model.vision_model.encoder.save_pretrained(folder / "encoder")
    loaded.model.language_model.save_pretrained(folder / "llm")
    loaded.processor.tokenizer.save_pretrained(folder / "llm")
    return folder


def arguments(parts, output, *more):
    return ["--encoder", str(parts / "encoder"), "--llm", str(parts / "llm"), "--output", str(output), *more]


def test_it_says_where_the_merge_stands(parts, tmp_path, capsys):
    assert main(arguments(parts, tmp_path / "ckpt", "--at", "1/2", "--compressor", "ldpv2")) == 0
    said = capsys.readouterr().err
    assert "merge at 1/2: after block 1 of 2" in said
    assert "16 tokens a tile become 4" in said
    assert "untrained compressors and projector" in " ".join(said.split())
    config = checkpoint.load(tmp_path / "ckpt").model.config
    assert config.compression["method"] == "ldpv2"
    assert config.untrained == ["compressors", "projector"]


def test_several_depths_make_an_elastic_checkpoint(parts, tmp_path):
    assert main(arguments(parts, tmp_path / "ckpt", "--at", "1/2", "1")) == 0
    model = checkpoint.load(tmp_path / "ckpt").model
    assert sorted(model.vision_model.compressors) == ["block_1", "block_2"]
    assert model.set_depth("1").blocks == (2,)


def test_depths_of_different_tokens(parts, tmp_path, capsys):
    assert main(arguments(parts, tmp_path / "ckpt", "--at", "1/2", "1/2+1")) == 0
    assert "16 tokens a tile become 4 at 1/2, 1 at 1/2+1" in capsys.readouterr().err


def test_without_a_merge(parts, tmp_path, capsys):
    """Of parts too, a model with compression off: a teacher, or LLaVA-OneVision itself."""
    assert main(arguments(parts, tmp_path / "ckpt", "--compressor", "none")) == 0
    assert "16 tokens a tile stay" in (said := " ".join(capsys.readouterr().err.split()))
    assert "untrained projector; train it" in said
    config = checkpoint.load(tmp_path / "ckpt").model.config
    assert (config.compression["method"], config.untrained) == (None, ["projector"])


def test_paths_of_merges(parts, tmp_path, capsys):
    assert (
        main(arguments(parts, tmp_path / "ckpt", "--at", "1/2+1", "1", "--ratio", "2+2", "4", "--average-merge")) == 0
    )
    said = capsys.readouterr().err
    assert "merge at 1/2+1: 2 x 2 after block 1, 2 x 2 after block 2 of 2" in said
    assert "16 tokens a tile become 1" in said
    model = checkpoint.load(tmp_path / "ckpt").model
    names = [name for name, _ in model.vision_model.all_merges()]
    assert names == ["path_1_2.block_1", "path_1_2.block_2", "block_2"]
    assert not any(merge.mlp.linear_2.weight.any() for _, merge in model.vision_model.all_merges())


def test_a_merge_may_start_as_an_average(parts, tmp_path, capsys):
    assert main(arguments(parts, tmp_path / "ckpt", "--at", "1/2", "1", "--average-merge", "--match-text-rms")) == 0
    assert "is scaled to it" in " ".join(capsys.readouterr().err.split())
    for compressor in checkpoint.load(tmp_path / "ckpt").model.vision_model.compressors.values():
        assert not compressor.mlp.linear_2.weight.any()
        assert compressor.mlp.linear_1.weight.any()


def test_the_same_seed_gives_the_same_weights(parts, tmp_path):
    digests = []
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        main(arguments(parts, tmp_path / name, "--seed", seed))
        digests.append(checkpoint.load(tmp_path / name).sha256)
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--at", "2"], "outside (0, 1]"),
        (["--at", "block:9"], "beyond the encoder's last block"),
        (["--compressor", "lacoo"], "average_pool, laco, laco_misaligned"),
        (["--ratio", "5"], "compression.ratio"),
        (["--ratio", "2+3"], "not one number for each merge"),
        (["--at", "1+1/2"], "a later block than the one before it"),
        (["--at", "1/2+1", "--ratio", "4+2"], "grids 4 x 4 → 1 x 1, then windows of 2 x 2"),
        (["--at", "1", "--compressor", "none"], "--compressor none merges nowhere"),
        (["--feature-layer", "9"], "feature_layer"),
        (["--encoder", "nowhere"], "there is no folder 'nowhere'"),
    ],
)
def test_wrong_input(parts, tmp_path, capsys, more, message):
    assert main(arguments(parts, tmp_path / "ckpt", *more)) == 2
    said = capsys.readouterr().err
    assert message in " ".join(said.split())
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def test_an_existing_output_stays(parts, tmp_path, capsys):
    (tmp_path / "ckpt").mkdir()
    assert main(arguments(parts, tmp_path / "ckpt")) == 2
    assert "--force" in capsys.readouterr().err
    assert main(arguments(parts, tmp_path / "ckpt", "--force")) == 0
    assert (tmp_path / "ckpt" / "model.safetensors").is_file()
    assert main(arguments(parts, tmp_path / "ckpt")) == 2
    assert main(arguments(parts, tmp_path / "ckpt", "--force")) == 0


@pytest.mark.parametrize("taken", ["llm", "notes", "file"])
def test_force_replaces_checkpoints_alone(parts, tmp_path, capsys, taken):
    """Not the language model's folder, which has a config.json too, and not what has nothing to do with models."""
    output = parts / "llm" if taken == "llm" else tmp_path / taken
    if taken == "notes":
        output.mkdir()
        (output / "thesis.txt").write_text("years")
    elif taken == "file":
        output.write_text("years")
    before = sorted(parts.rglob("*")), sorted(tmp_path.rglob("*"))
    assert main(arguments(parts, output, "--force")) == 2
    assert "is no LaCo checkpoint" in " ".join(capsys.readouterr().err.split())
    assert (sorted(parts.rglob("*")), sorted(tmp_path.rglob("*"))) == before


@pytest.mark.parametrize("kept", ["thesis.txt", "notes.json", "bundle"])
def test_force_deletes_no_file_that_is_not_the_checkpoints(parts, tmp_path, capsys, kept):
    output = tmp_path / "ckpt"
    assert main(arguments(parts, output)) == 0
    (output / "recipe.yaml").write_text("name: x")  # as training leaves it
    (output / kept).mkdir() if kept == "bundle" else (output / kept).write_text("years")
    before = sorted(tmp_path.rglob("*"))
    assert main(arguments(parts, output, "--force")) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "holds files that are not the checkpoint's" in said and kept in said
    assert sorted(tmp_path.rglob("*")) == before
    (output / kept).rename(tmp_path / kept)
    assert main(arguments(parts, output, "--force")) == 0


@pytest.fixture
def plain_parts(parts, tmp_path, make_plain):
    """``parts`` with a language model that :func:`make_plain` damaged."""
    folder = tmp_path / "plain"
    shutil.copytree(parts, folder)
    make_plain(folder / "llm")
    return folder


def test_it_says_what_the_tokenizer_needed(plain_parts, tmp_path, capsys):
    assert main(arguments(plain_parts, tmp_path / "ckpt")) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "language model: new tokens: <|image_pad|> (262), <|video_pad|> (263); 0 take free rows of the model" in said
    assert "special again, at their own ids: <|endoftext|>, <|im_start|>, <|im_end|>" in said
    assert "the padding token is <|endoftext|>" in said
    loaded = checkpoint.load(tmp_path / "ckpt")
    assert loaded.model.config.text_config.vocab_size == 264
    assert loaded.processor.tokenizer("<|im_end|>")["input_ids"] == [258]


def test_another_models_tokenizer(parts, tmp_path, capsys):
    shutil.copytree(parts, tmp_path / "parts")
    config = tmp_path / "parts" / "llm" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "vocab_size": 151_936}))
    assert main(arguments(tmp_path / "parts", tmp_path / "ckpt")) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "far fewer tokens than the model has rows" in said
    assert "another model's" in said
    assert "Traceback" not in said
    assert not (tmp_path / "ckpt").exists()


def test_a_published_model_is_imported(imported, tmp_path, capsys):
    theirs, _ = imported("llava_onevision")
    assert main(["--from-vlm", str(theirs.folder), "--output", str(tmp_path / "ckpt")]) == 0
    assert "as it was published, 25 tokens a tile" in " ".join(capsys.readouterr().err.split())
    assert checkpoint.load(tmp_path / "ckpt").model.config.compression["method"] is None
    assert main(["--from-vlm", str(theirs.folder), "--at", "1/3", "1", "--output", str(tmp_path / "merged")]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "merge at 1/3: after block 1 of 3" in said
    assert "the merges are averages, untrained" in said
    assert sorted(checkpoint.load(tmp_path / "merged").model.vision_model.compressors) == ["block_1", "block_3"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--encoder", "enc"], "--from-vlm and --encoder"),
        (["--tiling", "2x2"], "--from-vlm and --tiling"),
        (["--compressor", "ldpv2"], "--from-vlm and --compressor"),
        (["--at", "2"], "outside (0, 1]"),
        (["--ratio", "3"], "--ratio is of merges, and there are none"),
    ],
)
def test_a_published_model_is_not_put_together(imported, tmp_path, capsys, more, message):
    theirs, _ = imported("llava_onevision")
    assert main(["--from-vlm", str(theirs.folder), "--output", str(tmp_path / "ckpt"), *more]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "ckpt").exists()


def test_one_way_of_starting_is_asked_for(tmp_path, capsys):
    assert main(["--llm", "somewhere", "--output", str(tmp_path / "ckpt")]) == 2
    assert "no --encoder" in " ".join(capsys.readouterr().err.split())
