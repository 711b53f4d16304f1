"""``laco-export`` and what it says to bad input. The export itself: ``exporter/test_pipeline.py``."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from laco_export.bundle import open_bundle
from laco_export.cli import main
from laco_export.exporter import pipeline

TINY_CHECKPOINT = Path(__file__).resolve().parents[1] / "assets" / "tiny-checkpoint"

pytestmark = pytest.mark.usefixtures("traced_once")
QUICK = ("--no-llm", "--no-compile", "--fp32")


@pytest.fixture
def copy(tiny_checkpoint, tmp_path):
    """A checkpoint that a test may damage."""
    return shutil.copytree(tiny_checkpoint, tmp_path / "damaged")


def refused(capsys, checkpoint, *options, code=1):
    """Run with an output beside nothing else; returns the message, and checks that nothing was written."""
    folder = checkpoint.parent / "out"
    folder.mkdir(exist_ok=True)
    assert main(["--model", str(checkpoint), "--output", str(folder / "bundle"), *QUICK, *options]) == code
    captured = capsys.readouterr()
    assert captured.err.startswith(("error: ", "loading")), captured.err
    assert "Traceback" not in captured.err
    assert "internal error" not in captured.err
    assert captured.out == ""
    assert list(folder.iterdir()) == []
    return captured.err


def test_a_path_that_is_no_checkpoint(capsys, tmp_path):
    assert "there is no folder" in refused(capsys, tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    assert "config.json" in refused(capsys, tmp_path / "empty")
    (tmp_path / "empty" / "config.json").write_text(json.dumps({"model_type": "llama"}))
    assert "not a LaCo checkpoint" in refused(capsys, tmp_path / "empty")


def test_a_truncated_weight_file(capsys, copy):
    weights = copy / "model.safetensors"
    os.truncate(weights, weights.stat().st_size // 2)
    assert "damaged or cut off" in refused(capsys, copy)


@pytest.mark.parametrize("llm", ["int4", "int8", "fp32"])
@pytest.mark.parametrize("where", ["layers.0.mlp.down_proj", "embed_tokens"])
def test_a_language_model_with_nan_is_refused_in_every_precision(
    capsys, make_tiny_model, make_tiny_checkpoint, tmp_path, llm, where
):
    model = make_tiny_model()
    model.get_submodule(f"language_model.model.{where}").weight.data[3, 5] = float("nan")
    checkpoint = make_tiny_checkpoint(model, tmp_path / "checkpoint")
    options = ["--model", str(checkpoint), "--output", str(tmp_path / "bundle"), "--fp32", "--no-compile", "--llm", llm]
    assert main(options) == 1
    message = capsys.readouterr().err
    assert "inf or NaN" in message
    assert "Traceback" not in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint"]


def test_a_flipped_bit(capsys, copy):
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.write_bytes(data)
    assert "SHA-256" in refused(capsys, copy)


@pytest.mark.parametrize(("change", "says"), [("missing", "missing: "), ("unexpected", "unexpected: ")])
def test_missing_and_unexpected_tensors(capsys, copy, change, says):
    from safetensors.numpy import load_file, save_file

    tensors = load_file(copy / "model.safetensors")
    if change == "missing":
        del tensors["projector.linear_1.bias"]
    else:
        tensors["projector.linear_3.bias"] = np.zeros(3, np.float32)
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    message = refused(capsys, copy)
    assert says in message
    assert "projector.linear_" in message


def test_a_pickle_is_refused_and_never_loaded(capsys, copy):
    import torch

    ran = copy / "ran"

    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(ran),)

    (copy / "model.safetensors").unlink()
    torch.save({"weight": Harmful()}, copy / "pytorch_model.bin")
    message = refused(capsys, copy)
    assert "pickled" in message
    assert "safetensors" in message
    assert not ran.exists()


@pytest.mark.parametrize(
    ("depth", "says"),
    [
        ("1/3", "not trained with a merge at depth 1/3"),
        ("1/0", "divides by zero"),
        ("2", "outside (0, 1]"),
        ("banana", "not a depth"),
        ("block:9", "block"),
    ],
)
def test_depths_that_cannot_be(capsys, tiny_checkpoint, tmp_path, depth, says):
    checkpoint = tmp_path / "link"
    checkpoint.symlink_to(tiny_checkpoint)
    message = refused(capsys, checkpoint, "--at", depth, code=2)
    assert says in message
    assert "1/2" in message  # what is allowed


def test_an_output_that_exists_stays_untouched(capsys, tiny_checkpoint, tmp_path):
    output = tmp_path / "bundle"
    output.mkdir()
    (output / "mine.txt").write_text("mine")
    assert main(["--model", str(tiny_checkpoint), "--output", str(output), *QUICK]) == 2
    assert "--force" in capsys.readouterr().err
    assert (output / "mine.txt").read_text() == "mine"


def test_force_replaces_only_by_a_complete_bundle(capsys, tiny_checkpoint, tmp_path, monkeypatch):
    from laco_export.exporter import pipeline

    output = tmp_path / "bundle"
    output.mkdir()
    (output / "golden.npz").write_text("cut off")
    (output / "laco.json").write_text('{"files": {"golden.npz": {}}}')  # a damaged bundle may be replaced too
    command = ["--model", str(tiny_checkpoint), "--output", str(output), "--force", *QUICK]
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "write_manifest", failing(OSError(errno.ENOSPC, "No space left on device")))
        assert main(command) == 1
    assert "the disk is full" in capsys.readouterr().err
    assert sorted(path.name for path in output.iterdir()) == ["golden.npz", "laco.json"]
    assert main(command) == 0
    open_bundle(output)
    (output / "mine.txt").write_text("mine")
    assert main(command) == 2
    assert "mine.txt" in capsys.readouterr().err
    assert (output / "mine.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.parametrize("kind", ["file", "folder", "checkpoint"])
def test_force_replaces_bundles_alone(capsys, tiny_checkpoint, tmp_path, kind):
    output = tmp_path / "mine"
    if kind == "file":
        output.write_text("mine")
    else:
        shutil.copytree(tiny_checkpoint, output) if kind == "checkpoint" else output.mkdir()
        (output / "mine.txt").write_text("mine")
    source = output if kind == "checkpoint" else tiny_checkpoint
    assert main(["--model", str(source), "--output", str(output), "--force", *QUICK]) == 2
    assert "is no bundle" in capsys.readouterr().err
    assert (output if kind == "file" else output / "mine.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_the_space_that_is_asked_for_is_of_what_is_written(
    capsys, make_tiny_model, make_tiny_checkpoint, tmp_path, monkeypatch
):
    checkpoint = make_tiny_checkpoint(make_tiny_model(vocab_size=20_000), tmp_path / "checkpoint")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1))
    asked = []
    for options in (["--no-llm", "--fp16"], ["--no-llm", "--fp32"], ["--llm", "int8"], ["--llm", "fp32"]):
        assert main(["--model", str(checkpoint), "--output", str(tmp_path / "bundle"), *options]) == 1
        asked.append(float(capsys.readouterr().err.partition("about ")[2].partition(" MB")[0]))
    half_tower, tower, with_int8, with_fp32 = asked  # MB; the language model has 1 million weights
    assert half_tower < tower < 0.3
    assert 1 < with_int8 < 1.3 < 3.8 < with_fp32 < 4.5


def failing(error):
    def fail(*args, **options):
        raise error

    return fail


def test_memory_that_runs_out_is_no_internal_error(capsys, tiny_checkpoint, tmp_path, monkeypatch):
    from laco_export.exporter import pipeline

    monkeypatch.setattr(pipeline, "write_manifest", failing(MemoryError("Unable to allocate 34.2 TiB")))
    assert main(["--model", str(tiny_checkpoint), "--output", str(tmp_path / "bundle"), *QUICK]) == 1
    message = capsys.readouterr().err
    assert "the memory ran out: Unable to allocate 34.2 TiB" in message
    assert "internal error" not in message
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_behind_another_library(capsys, tiny_checkpoint, tmp_path, monkeypatch):
    from laco_export.exporter import vision_graph

    def fail(*args, **options):
        try:
            raise OSError(errno.ENOSPC, "No space left on device", "vision.data")
        except OSError as error:
            raise RuntimeError("could not serialise the model") from error

    monkeypatch.setattr(vision_graph, "write_graph", fail)
    assert main(["--model", str(tiny_checkpoint), "--output", str(tmp_path / "bundle"), *QUICK]) == 1
    assert "the disk is full (vision.data)" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_is_told_before_the_work(capsys, tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    assert main(["--model", str(tiny_checkpoint), "--output", str(tmp_path / "bundle"), *QUICK]) == 1
    message = capsys.readouterr().err
    assert "cannot hold the bundle" in message
    assert "trace" not in message
    assert list(tmp_path.iterdir()) == []


def test_the_default_name_says_checkpoint_depth_and_precision(tiny_checkpoint, tmp_path, monkeypatch):
    from pathlib import Path

    from laco_export.exporter.options import ExportOptions

    monkeypatch.chdir(tmp_path)
    assert ExportOptions(tiny_checkpoint).output_for("1/2") == Path("tiny-at1_2-fp16")
    assert ExportOptions(tiny_checkpoint, precision="fp32").output_for("block:7") == Path("tiny-atblock7-fp32")
    assert ExportOptions(tiny_checkpoint).output_for() == Path("tiny-full-fp16")
    assert ExportOptions(Path(".")).output_for("1/2") == Path(f"{tmp_path.name}-at1_2-fp16")


@pytest.mark.parametrize(
    "options", [("--opset", "17"), ("--opset", "23")], ids=["too old", "newer than the target reads"]
)
def test_opsets_that_are_not_written(capsys, tiny_checkpoint, tmp_path, options):
    checkpoint = tmp_path / "link"
    checkpoint.symlink_to(tiny_checkpoint)
    assert "18, 19, 20" in refused(capsys, checkpoint, *options, code=2)


def test_both_precisions_at_once_are_a_usage_error(capsys, tiny_checkpoint):
    with pytest.raises(SystemExit) as exit_:
        main(["--model", str(tiny_checkpoint), "--fp16", "--fp32"])
    assert exit_.value.code == 2
    assert "not allowed with" in capsys.readouterr().err


def test_help_imports_nothing_heavy():
    program = (
        "import sys\nfrom laco_export.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'transformers', 'onnx', 'numpy', 'polygraphy', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--at" in done.stdout


def test_debug_shows_the_traceback(tmp_path):
    from laco_export.errors import CheckpointError

    with pytest.raises(CheckpointError):
        main(["--model", str(tmp_path / "absent"), "--debug"])


def test_a_language_model_that_rounding_changes_is_refused_and_nothing_is_left(capsys, tmp_path):
    """Beyond --max-kl; the same export passes at the default."""
    output = tmp_path / "bundle"
    options = ["--model", str(TINY_CHECKPOINT), "--output", str(output), "--fp32", "--no-compile", "--llm", "int4"]
    assert main([*options, "--max-kl", "0.001"]) == 1
    message = capsys.readouterr().err
    assert "rounding the language model to int4 changes what it says" in message
    assert "model.layers." in message
    assert "--max-kl" in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--llm-texts", "nowhere.txt"], "cannot be read"),
        (["--llm-texts", "empty.txt"], "is empty"),
        (["--llm-texts", "folder"], "cannot be read: Is a directory"),
        (["--llm-texts", "latin1.txt"], "cannot be read: it is not UTF-8"),
        (["--llm-texts", "long.txt", "empty.txt"], "is empty"),
        (["--llm-texts", "short.txt"], "too short"),
        (["--vocabulary", "nowhere.txt"], "a text of --vocabulary cannot be read"),
        (["--vocabulary", "long.txt", "empty.txt"], "a text of --vocabulary is empty"),
        (["--vocabulary", "folder"], "no texts for --vocabulary"),
        (["--vocabulary", "latin1.txt"], "it is not UTF-8"),
        (["--vocabulary", "ids.json"], "no token of the language model"),
        (["--vocabulary", "long.txt", "--vocabulary-size", "9"], "--vocabulary-size cannot be had"),
        (["--vocabulary", "long.txt", "--vocabulary-size", "-9"], "--vocabulary-size is a number of tokens"),
        (["--vocabulary-size", "300"], "--vocabulary-size is of a vocabulary that is chosen from texts"),
        (["--vocabulary", "long.txt", "--no-llm"], "--vocabulary is about the language model"),
        (["--max-kl", "0"], "more than 0"),
        (["--llm-texts", "long.txt", "--no-llm"], "--llm-texts is about the language model, which --no-llm leaves out"),
        (["--max-kl", "0.3", "--no-llm"], "--max-kl is about the language model"),
    ],
)
def test_texts_and_limits_that_cannot_be_used_are_refused(capsys, tmp_path, monkeypatch, more, expected):
    monkeypatch.chdir(tmp_path)
    Path("empty.txt").write_text("\n")
    Path("short.txt").write_text("Three words only.")
    Path("long.txt").write_text("Many words. " * 1000)
    Path("latin1.txt").write_bytes("Übermaß".encode("latin-1"))
    Path("ids.json").write_text("[1, 2, 448]")
    Path("folder").mkdir()
    monkeypatch.setattr(pipeline, "prepare_pictures", lambda *_: pytest.fail("the tower's work has begun"))
    options = ["--model", str(TINY_CHECKPOINT), "--output", "bundle", "--fp32", "--no-compile", "--llm", "int4"]
    assert main([*options, *more]) == 2
    message = capsys.readouterr().err
    assert expected in message and ("allowed:" in message or "do:" in message) and "Traceback" not in message
    assert not Path("bundle").exists()


def test_the_finished_bundle_is_asked_before_it_gets_its_name(capsys, tmp_path):
    output = tmp_path / "bundle"
    command = ["--model", str(TINY_CHECKPOINT), "--output", str(output), "--fp32", "--no-compile"]
    assert main([*command, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    parts = document["trial"]["parts"]
    assert [part["passed"] for part in parts] == [True] * 5
    assert sum(part["numbers"].get("tokens", 0) for part in parts) >= 6
    assert "ask the finished bundle" in document["seconds"]
    assert open_bundle(output).manifest.golden_answers == "golden_answers.npz"


def test_without_a_language_model_nothing_is_asked(capsys, tiny_checkpoint, tmp_path):
    output = tmp_path / "bundle"
    assert main(["--model", str(tiny_checkpoint), "--output", str(output), *QUICK, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trial"] is None
    manifest = open_bundle(output).manifest
    assert manifest.golden_answers is None
    assert "without a decoder: --no-llm" in manifest.notes


def test_a_bundle_that_answers_otherwise_is_refused_and_the_old_one_stays(
    capsys, tiny_checkpoint, tmp_path, monkeypatch
):
    from laco_engines.picture_encoder import PictureEncoder

    encode = PictureEncoder.encode
    rolled = lambda self, visuals: [np.roll(features, 1, axis=0) for features in encode(self, visuals)]
    output = tmp_path / "bundle"
    assert main(["--model", str(tiny_checkpoint), "--output", str(output), *QUICK]) == 0
    before = (output / "laco.json").read_bytes()
    monkeypatch.setattr(PictureEncoder, "encode", rolled)
    assert main(["--model", str(tiny_checkpoint), "--output", str(output), "--force", "--fp32", "--no-compile"]) == 1
    said = capsys.readouterr().err
    assert "the finished bundle does not answer as PyTorch does, and was not given its name" in said
    assert "places of the visual tokens, a picture: cosine" in said
    assert (output / "laco.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_tokenizer_that_the_engines_cannot_read_is_refused(capsys, tmp_path):
    copy = shutil.copytree(TINY_CHECKPOINT, tmp_path / "checkpoint")
    (copy / "tokenizer.json").unlink()  # transformers makes one of vocab.json and merges.txt
    command = ["--model", str(copy), "--output", str(tmp_path / "bundle"), "--fp32", "--no-compile"]
    assert main(command) == 1
    assert "has no tokenizer.json" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
