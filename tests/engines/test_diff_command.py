"""``laco-engine diff`` and ``inspect --graph`` as their user meets them."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from laco_engines.cli import main
from laco_export.bundle import open_bundle

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "proof.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"^(laco-engine diff BUNDLE.*?)\s*(?:#.*)?$", PAGE, re.M)


@pytest.fixture
def run(capfd):
    def call(*arguments):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as exit:
            code = exit.code
        captured = capfd.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return call


@pytest.fixture
def with_golden(rewritten):
    """``with_golden(name=change)``: a copy of the bundle whose golden file has other arrays, with valid hashes."""
    from laco_export.bundle import read_manifest, write_manifest

    def make(**changes):
        folder = rewritten()
        with np.load(folder / "golden.npz") as stored:
            arrays = dict(stored)
        for name, change in changes.items():
            arrays[name] = change(arrays[name])
        np.savez_compressed(folder / "golden.npz", **arrays)
        write_manifest(folder, read_manifest(folder))
        return folder

    return make


def test_diff_repeats_the_comparison_without_the_checkpoint(bundle_folder, run):
    code, out, _ = run("diff", bundle_folder)
    assert code == 0
    for text in ("onnxruntime", "PyTorch at export", "drawn: noise", "allowed  cosine ≥ 0.9999995", "max abs ≤"):
        assert text in out
    assert out.count("ok  ") == 4
    assert "FAIL" not in out


def test_diff_repeats_it_with_pytorch_run_now(bundle_folder, run, picture_file):
    checkpoint = bundle_folder.parent / "tiny"
    code, out, _ = run("diff", bundle_folder, "--model", checkpoint, "--images", picture_file, "--json")
    assert code == 0
    document = json.loads(out)
    assert document["passed"] is True
    assert document["against"] == f"PyTorch ({checkpoint})"
    assert [compared["picture"] for compared in document["pictures"]] == [picture_file.name]
    assert 0 < document["pictures"][0]["max_abs"] < 1e-3
    assert document["pictures"][0]["tolerance"]["norm_drift"] == 0.001


def test_diff_compares_each_block_on_a_marked_graph_and_says_so(bundle_folder, run):
    code, out, _ = run("diff", bundle_folder, "--blocks")
    assert code == 0
    for text in ("vision_model.embeddings", "encoder.layers.3", "compressors.block_2.residual", "rms_norm"):
        assert text in out
    assert "its block outputs marked" in out
    assert "does not fuse across them" in out


def test_features_that_differ_fail_and_name_the_next_step(with_golden, run):
    code, out, _ = run("diff", with_golden(image_features=lambda features: features * 1.01))
    assert code == 1
    assert "FAIL" in out
    assert "norm ratio 0.99010" in out
    assert "first out of tolerance: image_features" in out
    assert "--blocks" in out


def test_the_first_block_that_differs_is_named(with_golden, run):
    layer = "vision_model.encoder.encoder.layers.2"
    changes = {f"tokens/{layer}": lambda tokens: -tokens, "image_features": lambda features: -features}
    code, out, _ = run("diff", with_golden(**changes), "--blocks")
    assert code == 1
    assert f"first out of tolerance: {layer}" in out


def test_another_checkpoint_is_refused(bundle_folder, tiny_checkpoint, run):
    code, _, err = run("diff", bundle_folder, "--model", tiny_checkpoint)
    assert code == 1
    assert "is not the checkpoint that this bundle was exported from" in err


def test_pictures_of_ones_own_need_the_checkpoint(bundle_folder, picture_file, run):
    code, _, err = run("diff", bundle_folder, "--images", picture_file)
    assert code == 2
    assert "--images needs --model" in err


def test_inspect_prints_the_exports_table_again(bundle_folder, run):
    from laco_export.summary import summary_lines

    code, out, _ = run("inspect", bundle_folder)
    assert code == 0
    flat = " ".join(out.replace("│", " ").split())
    for label, text in summary_lines(open_bundle(bundle_folder).manifest):
        assert label in flat
        assert text.split()[0] in flat
    for text in ("FLOPs", "of a merge at @1", "seconds", "together", "operator", "as traced", "exported"):
        assert text in flat
    assert "(≥ 0.9999995)" in flat  # each number beside its tolerance


def test_inspect_draws_the_merge(bundle_folder, run, tmp_path):
    code, out, _ = run("inspect", bundle_folder, "--graph", tmp_path / "merge.png")
    assert code == 0
    assert "merge.png" in out
    image = Image.open(tmp_path / "merge.png")
    assert image.format == "PNG"
    assert image.height > 800  # a dozen rows
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ""] == ["merge.png"]


def test_inspect_draws_png_alone(bundle_folder, run, tmp_path):
    code, _, err = run("inspect", bundle_folder, "--graph", tmp_path / "merge.svg")
    assert code == 2
    assert "a name that ends in .png" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", SHOWN)
def test_the_commands_of_the_page_on_proof(command, bundle_folder, picture_file, run):
    places = {"BUNDLE": bundle_folder, "CKPT": bundle_folder.parent / "tiny", "DIR": picture_file.parent}
    arguments = [places.get(word, word) for word in command.split()[1:]]
    code, out, _ = run(*arguments)
    assert code == 0
    assert "agrees with PyTorch" in out


def test_the_page_shows_them():
    assert len(SHOWN) == 4
