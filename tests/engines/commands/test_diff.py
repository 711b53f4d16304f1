"""``laco-engine diff`` as its user meets it."""

import json

import numpy as np
import pytest


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
