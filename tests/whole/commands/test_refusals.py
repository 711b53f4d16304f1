"""What needs no weights is refused before anything heavy is imported: by the modules, not by the clock."""

import json
import os
import shutil
from pathlib import Path

import pytest
from light_commands import LightCommands
from source_tree import ROOT

CHECKPOINT = ROOT / "tests" / "assets" / "tiny-checkpoint"
EXPORT, TRAIN, ENGINE, CALIBRATE = "laco_export.cli", "laco_training.cli", "laco_engines.cli", "laco_calibration.cli"
REPORT = ("report", "bundle", "--images", "pictures", "--questions", "questions.txt")
PARTS = ("--encoder", "encoder", "--llm", "llm", "--output", "new")
DISTIL = ("distil", "--teacher", "plain", "--output", "new")

REFUSALS = {
    "no such checkpoint": (EXPORT, ["--model", "nope"], "there is no folder 'nope'"),
    "no checkpoint": (EXPORT, ["--model", "pictures"], "is not a checkpoint: it has no config.json"),
    "another model's folder": (EXPORT, ["--model", "llm"], "is not a LaCo checkpoint"),
    "a checkpoint without weights": (EXPORT, ["--model", "no-weights"], "holds no weights"),
    "weights cut off": (EXPORT, ["--model", "cut-off"], "is damaged or cut off"),
    "a decoder that cannot be exported": (EXPORT, ["--model", "gemma"], "of a family that cannot be exported"),
    "a depth that is none": (EXPORT, ["--model", "ckpt", "--at", "x"], "'x' is not a depth"),
    "a depth that is not carried": (EXPORT, ["--model", "ckpt", "--at", "1/4"], "with a merge at depth 1/4"),
    "an unknown precision": (EXPORT, ["--model", "ckpt", "--llm", "int3"], "--llm is unknown"),
    "an unknown target": (EXPORT, ["--model", "ckpt", "--target", "x"], "--target is unknown"),
    "texts that are not there": (EXPORT, ["--model", "ckpt", "--llm-texts", "nope"], "--llm-texts cannot be read"),
    "a missing vocabulary": (EXPORT, ["--model", "ckpt", "--vocabulary", "nope"], "--vocabulary cannot be read"),
    "a vocabulary without an answer's end": (
        EXPORT, ["--model", "ckpt", "--vocabulary", "ids.json"], "leaves out tokens that an answer needs",
    ),
    "a vocabulary below the least": (
        EXPORT, ["--model", "ckpt", "--vocabulary", "own.yaml", "--vocabulary-size", "200"], "allowed: 263 (",
    ),
    "an output that stands": (EXPORT, ["--model", "ckpt", "--output", "pictures"], "exists already"),
    "an output of somebody else's": (
        EXPORT, ["--model", "ckpt", "--output", "pictures", "--force"], "exists already and is no bundle",
    ),
    "no such picture": (EXPORT, ["--model", "ckpt", "--images", "nope.png"], "'nope.png' does not exist"),
    "a file that is no picture": (EXPORT, ["--model", "ckpt", "--images", "data.json"], "is not a picture"),
    "no such recipe": (TRAIN, ["--recipe", "nope"], "there is no recipe 'nope'"),
    "an unknown key": (TRAIN, ["--recipe", "tiny", "--set", "foo=1"], "unknown key 'foo'"),
    "an unknown stage": (TRAIN, ["--recipe", "tiny", "--stage", "7"], "7"),
    "a run that stands": (TRAIN, ["--recipe", "tiny", "--output", "pictures"], "exists already"),
    "a recipe's missing encoder": (TRAIN, ["--recipe", "own.yaml", "--output", "new"], "model.encoder: there is no"),
    "a recipe's missing data": (
        TRAIN, ["--recipe", "own.yaml", "--output", "new", "--set", "model.encoder=llm"],
        "stages.1: there is no data file",
    ),
    "a plan of missing parts": (TRAIN, ["--recipe", "own.yaml", "--dry-run"], "model.encoder: there is no folder"),
    "nothing to start from": (TRAIN, ["init", "--output", "new"], "nothing to start from"),
    "parts that are not there": (TRAIN, ["init", *PARTS, "--llm", "nope"], "--llm: there is no folder 'nope'"),
    "parts without weights": (TRAIN, ["init", *PARTS], "holds no weights"),
    "a checkpoint that stands": (TRAIN, ["init", *PARTS, "--output", "ckpt"], "exists already"),
    "a folder to replace": (
        TRAIN, ["init", *PARTS, "--output", "pictures", "--force"], "exists already and is no LaCo checkpoint",
    ),
    "no published model": (TRAIN, ["init", "--from-vlm", "llm", "--output", "new"], "of a family that is not known"),
    "a teacher that merges": (
        TRAIN, ["distil", "--teacher", "ckpt", "--images", "pictures", "--output", "new"], "merges inside already",
    ),
    "no pictures to distil on": (TRAIN, [*DISTIL, "--images", "nope"], "there are no pictures at 'nope'"),
    "a depth beyond the encoder": (
        TRAIN, [*DISTIL, "--images", "pictures", "--at", "block:9"], "block:9",
    ),
    "an unknown key of the stage": (TRAIN, [*DISTIL, "--images", "pictures", "--set", "foo=1"], "unknown key 'foo'"),
    "a price without its reference": (TRAIN, ["price", "ckpt", "--images", "pictures"], "--reference CKPT"),
    "a price on no pictures": (TRAIN, ["price", "plain", "--images", "nope"], "nope"),
    "a price's ratio": (TRAIN, ["price", "plain", "--images", "pictures", "--at", "1", "--ratio", "7"], "ratio"),
    "a look at no data": (TRAIN, ["look", "ckpt", "--data", "nope.json"], "there is no data file 'nope.json'"),
    "a look at a missing depth": (TRAIN, ["look", "ckpt", "--data", "data.json", "--at", "1"], "at depth 1"),
    "run: no bundle": (ENGINE, ["run", "nope", "--question", "?"], "is not a bundle"),
    "run: no question": (ENGINE, ["run", "pictures"], "there is no question"),
    "run: a bundle without its files": (ENGINE, ["run", "bundle", "--question", "?"], "vision.data"),
    "chat: no bundle": (ENGINE, ["chat", "nope"], "is not a bundle"),
    "serve: no bundle": (ENGINE, ["serve", "nope", "--port", "0"], "is not a bundle"),
    "bench: no bundle": (ENGINE, ["bench", "nope"], "is not a bundle"),
    "bench: no PNG": (ENGINE, ["bench", "bundle", "--plot", "x.jpg"], "--plot writes a PNG"),
    "report: no bundle": (ENGINE, ["report", "nope", *REPORT[2:]], "is not a bundle"),
    "report: no page": (ENGINE, [*REPORT, "--output", "x.pdf"], "ends in .html"),
    "report: a page that stands": (ENGINE, [*REPORT, "--output", "stands.html"], "exists already"),
    "report: no pictures": (ENGINE, [*REPORT, "--images", "nope"], "'nope' is not a folder"),
    "report: missing pictures": (ENGINE, [*REPORT, "--questions", "asked.json"], "gone.png, lost.png"),
    "report: nothing is asked": (ENGINE, [*REPORT, "--questions", "data.json"], "data.json"),
    "report: a bundle that cannot answer": (ENGINE, REPORT, "without a language model"),
    "diff: no bundle": (ENGINE, ["diff", "nope"], "is not a bundle"),
    "inspect: a bundle without its files": (ENGINE, ["inspect", "bundle"], "vision.data"),
    "doctor: no bundle": (ENGINE, ["doctor", "nope"], "is not a bundle"),
    "build: no such device": (ENGINE, ["build", "bundle", "--device", "x"], "x"),
    "plan: no bundle": (ENGINE, ["plan", "nope", "--budget", "1s"], "is not a bundle"),
    "plan: a bundle without its files": (ENGINE, ["plan", "bundle", "--budget", "1s", "--of", "encode"], "vision.data"),
    "plan: no unit": (ENGINE, ["plan", "bundle", "--budget", "150"], "has no unit"),
    "plan: no such device": (ENGINE, ["plan", "bundle", "--budget", "1s", "--device", "x"], "orin-nano, agx-orin"),
    "plan: no language model": (ENGINE, ["plan", "bundle", "--budget", "1s"], "--of encode"),
    "plan: no answers known": (
        ENGINE, ["plan", "bundle", "--of", "encode", "--max-drop", "1"], "nothing is known of that",
    ),
    "calibrate: no bundle": (CALIBRATE, ["nope", "--images", "pictures"], "is not a bundle"),
    "calibrate: not from FP16": (CALIBRATE, ["bundle", "--images", "pictures"], "calibration starts from FP32"),
    "calibrate: no pictures": (CALIBRATE, ["--model", "ckpt", "--images", "nope"], "'nope' does not exist"),
    "calibrate: no checkpoint": (CALIBRATE, ["--model", "nope", "--images", "pictures"], "there is no folder 'nope'"),
    "calibrate: an output that stands": (
        CALIBRATE, ["--model", "ckpt", "--images", "pictures", "--output", "pictures"], "exists already",
    ),
    "calibrate: an unknown method": (CALIBRATE, ["bundle", "--images", "pictures", "--method", "x"], "--method is not"),
    "calibrate: no statistics": (CALIBRATE, ["--compare", "nope", "nope"], "holds no calibration statistics"),
}  # fmt: skip
"""Name → the command's module, its arguments, and what it says."""

MISSING = {
    "onnxscript": (EXPORT, ["--model", "ckpt"], "laco-export[cpu]"),
    "torch": (CALIBRATE, ["--model", "ckpt", "--images", "pictures"], "laco-export[cpu]"),
    "accelerate": (TRAIN, ["--recipe", "tiny", "--output", "new"], "laco-export[train]"),
    "transformers": (TRAIN, ["look", "ckpt", "--data", "data.json"], "laco-export[cpu]"),
    "jinja2": (ENGINE, REPORT, "laco-export[report]"),
    "uvicorn": (ENGINE, ["serve", "bundle", "--port", "0"], "laco-export[serve]"),
}
"""A package that is not installed → what needs it, and the extra that brings it."""

OWN = """
name: own
data_folder: .
model: {encoder: nope, language_model: llm}
all_stages: {global_batch_size: 2, per_device_batch_size: 2}
stages: {"1": {data: nope.json, learning_rates: {projector: 1e-3}, plain: true}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What the commands are given: checkpoints, parts, pictures, and a bundle whose weights are missing."""
    folder = tmp_path_factory.mktemp("refused")
    values = json.loads((CHECKPOINT / "config.json").read_text())
    for name in ("ckpt", "plain", "no-weights", "cut-off", "gemma"):
        shutil.copytree(CHECKPOINT, folder / name)
    (folder / "no-weights" / "model.safetensors").unlink()
    os.truncate(folder / "cut-off" / "model.safetensors", 100)
    no_merges = {**values["compression"], "method": None, "depths": [], "blocks": []}
    _write(folder / "plain" / "config.json", {**values, "compression": no_merges})
    _write(folder / "gemma" / "config.json", {**values, "text_config": {"model_type": "gemma2"}})
    for name, part in (("encoder", "vision_config"), ("llm", "text_config")):
        (folder / name).mkdir()
        _write(folder / name / "config.json", values[part])
    shutil.copy(CHECKPOINT / "model.safetensors", folder / "llm")
    (folder / "pictures").mkdir()
    shutil.copy(next((ROOT / "tests" / "assets").rglob("*.png")), folder / "pictures" / "a.png")
    _write(folder / "data.json", [])
    _write(folder / "ids.json", list(range(256)))
    _write(folder / "asked.json", [{"image": name, "question": "?"} for name in ("a.png", "gone.png", "lost.png")])
    (folder / "questions.txt").write_text("What is this?")
    (folder / "stands.html").write_text("mine")
    (folder / "own.yaml").write_text(OWN)
    _write_bundle(folder / "bundle")
    return folder


def _write(path: Path, values: object) -> None:
    path.write_text(json.dumps(values))


def _write_bundle(folder: Path) -> None:
    """A manifest that is whole, over weights that are not there."""
    from laco_export.bundle import Manifest, TensorSpec, Vision, VisionGraph, write_manifest
    from laco_export.preprocessing import ImagePreprocessing

    pixels = TensorSpec("pixel_values", "float32", (1, 3, 28, 28))
    graph = VisionGraph("vision_b1.onnx", 1, pixels, TensorSpec("image_features", "float32", (1, 4, 8)))
    folder.mkdir()
    for name in (graph.file, "vision.data", "golden.npz"):
        (folder / name).write_bytes(name.encode())
    merge = {"method": "laco", "depth": "1/2", "block": 2, "ratio": 2, "tokens_before": 16, "tokens_after": 4}
    manifest = Manifest(
        tool_version="0.1.0",
        libraries={"onnx": "1.2.3"},
        source={"name": "tiny", "sha256": "ab" * 32},
        encoder={"model_type": "aimv2_vision_model", "hidden_size": 16, "num_blocks": 4},
        compression=merge,
        vision=Vision([graph], "vision.data", 20, 10, "fp16", token_grid=(2, 2)),
        preprocessing=ImagePreprocessing(28, 28, "squash", (0.5,) * 3, (0.5,) * 3).to_dict(),
        golden="golden.npz",
        accuracy={"tensors": []},
    )
    write_manifest(folder, manifest)
    (folder / "vision.data").unlink()


@pytest.fixture(scope="module")
def ask(folder):
    """``ask(module, arguments, absent=())``: see :meth:`LightCommands.ask`."""
    commands = LightCommands()
    yield lambda module, arguments, absent=(): commands.ask(module, arguments, folder, absent)
    commands.close()


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_imports_nothing_heavy(ask, folder, case):
    module, arguments, said = REFUSALS[case]
    before = sorted(folder.rglob("*"))
    result = ask(module, arguments)
    assert result["heavy"] == [], result["said"]
    assert result["code"] in (1, 2) and said in result["said"], result
    assert "Traceback" not in result["said"] and "internal error" not in result["said"]
    assert sorted(folder.rglob("*")) == before, "something was left behind"


@pytest.mark.parametrize("package", MISSING)
def test_a_missing_package_is_told_before_the_others_are_imported(ask, package):
    module, arguments, extra = MISSING[package]
    result = ask(module, arguments, (package,))
    assert result["heavy"] == [] and result["code"] == 1, result
    assert f"'{package}'" in result["said"] and extra in result["said"]


def test_what_is_not_refused_imports_pytorch(ask):
    """The witness that the forks see imports at all."""
    result = ask(EXPORT, ["--model", "ckpt", "--output", "new"])
    assert result["heavy"] and "error" not in result["said"]
