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
    assert "FAIL" not in out
    assert "not compared" not in out
    tower, _, rest = out.partition("language model and answers")
    assert tower.count("ok  ") == 4
    assert [line.split(": ")[0].partition(" (")[0].strip() for line in rest.splitlines() if "  ok  " in line] == [
        "ok   embedding",
        *(
            f"ok   decoder's {part}, {shown}"
            for shown in ("without a picture", "a picture", "2 pictures")
            for part in ("prefill", "steps through the KV cache")
        ),
        "ok   answer, without a picture",
        "ok   places of the visual tokens, a picture",
        "ok   answer, a picture",
        "ok   places of the visual tokens, 2 pictures",
        "ok   answer, 2 pictures",
    ]


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


def test_the_text_runtime_that_answers_can_be_named(bundle_folder, run):
    code, out, _ = run("diff", bundle_folder, "--text-runtime", "lean")
    assert code == 0
    assert "language model and answers on lean on onnxruntime" in out
    assert out.count("ok   answer") == 3
    code, _, err = run("diff", bundle_folder / "none", "--text-runtime", "abacus")
    assert code == 2
    assert "no such text runtime" in err


def test_diff_compares_each_block_on_a_marked_graph_and_says_so(bundle_folder, run):
    code, out, _ = run("diff", bundle_folder, "--blocks")
    assert code == 0
    for text in ("vision_model.embeddings", "encoder.layers.3", "compressors.block_2.residual", "rms_norm"):
        assert text in out
    assert "its block outputs marked" in out
    assert "does not fuse across them" in out


def test_features_that_differ_fail_and_the_blocks_are_compared_unasked(with_golden, run):
    code, out, _ = run("diff", with_golden(image_features=lambda features: features * 1.01))
    assert code == 1
    assert "FAIL" in out
    assert "norm ratio 0.99010" in out
    assert "ok   cosine 1.0000000, norm ratio 1.00000" in out  # the blocks, which agree
    assert "first out of tolerance: image_features" in out


def test_where_blocks_cannot_be_compared_the_next_step_is_named(with_golden, run, monkeypatch):
    from laco_engines.comparison import marked_graph
    from laco_engines.runtimes import RuntimeMissingError

    def missing(*_):
        raise RuntimeMissingError("onnx is not installed")

    monkeypatch.setattr(marked_graph, "boundary_tensors", missing)
    code, out, _ = run("diff", with_golden(image_features=lambda features: features * 1.01))
    assert code == 1
    assert "to see in which block: laco-engine diff BUNDLE --blocks" in out


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


@pytest.fixture
def with_files(rewritten):
    """``with_files(change)``: a copy of the bundle whose files ``change(folder)`` has changed, with valid hashes."""
    from laco_export.bundle import read_manifest, write_manifest

    def make(change):
        folder = rewritten()
        change(folder)
        write_manifest(folder, read_manifest(folder))
        return folder

    return make


def zero_the_decoder(folder):
    path = folder / "llm" / "model.onnx_data"
    path.write_bytes(bytes(path.stat().st_size))


def test_a_decoder_whose_weights_were_zeroed_is_named(with_files, run):
    code, out, _ = run("diff", with_files(zero_the_decoder), "--json")
    assert code == 1
    document = json.loads(out)
    passed = {part["part"].partition(" (")[0]: part["passed"] for part in document["parts"]}
    assert document["passed"] is False
    assert document["worst"]["cosine"] > 0.999  # of the tower, which is as it was
    assert document["first_failing"] == "embedding"  # tied: the head's rows
    assert not passed["decoder's prefill, without a picture"]
    assert not passed["answer, 2 pictures"]
    assert passed["places of the visual tokens, 2 pictures"]


def test_an_embedding_row_off_by_one_is_named(bundle_folder, run, monkeypatch):
    from laco_export.embedding_table import EmbeddingTable

    rows = EmbeddingTable.rows
    monkeypatch.setattr(EmbeddingTable, "rows", lambda self, ids: rows(self, (np.asarray(ids) + 1) % self.shape[0]))
    code, out, _ = run("diff", bundle_folder)
    assert code == 1
    assert "first out of tolerance: embedding" in out
    assert "256 rows, 256 of them out of tolerance" in out


def test_a_step_that_forgets_the_cache_is_named(bundle_folder, run, monkeypatch):
    from laco_engines.comparison import decoder_check

    forget = lambda session, embeds, cache, wanted=None: run_decoder(session, embeds, None, wanted)
    run_decoder = decoder_check.run_decoder
    monkeypatch.setattr(decoder_check, "run_decoder", forget)
    code, out, _ = run("diff", bundle_folder)
    assert code == 1
    assert "first out of tolerance: decoder's steps through the KV cache, without a picture" in out


def test_visual_tokens_one_place_off_are_named(bundle_folder, run, monkeypatch):
    from laco_engines.picture_encoder import PictureEncoder

    encode = PictureEncoder.encode
    rolled = lambda self, visuals: [np.roll(features, 1, axis=0) for features in encode(self, visuals)]
    monkeypatch.setattr(PictureEncoder, "encode", rolled)
    code, out, _ = run("diff", bundle_folder)
    assert code == 1
    assert "first out of tolerance: places of the visual tokens, a picture" in out


def test_a_bundle_of_an_earlier_version_says_what_was_not_compared(rewritten, run):
    code, out, _ = run("diff", rewritten(golden_answers=None))
    assert code == 0
    assert "not compared: the language model: the bundle has no golden answers" in out


def test_without_a_language_model_there_is_nothing_else_to_compare(rewritten, run):
    code, out, _ = run("diff", rewritten(golden_answers=None, decoder=None))
    assert code == 0
    assert "not compared: a language model: the bundle has none" in out


@pytest.mark.usefixtures("needs_optimum")
def test_without_optimum_the_golden_answers_are_asked_all_the_same(bundle_folder, run, monkeypatch):
    from laco_engines.generation import text_runtime
    from laco_engines.generation.optimum_runtime import OptimumText

    monkeypatch.setattr(text_runtime, "_installed", lambda module: module != "torch")
    monkeypatch.setattr(OptimumText, "generate", None)
    code, out, _ = run("diff", bundle_folder)
    assert code == 0
    assert out.count("ok   answer, ") == 3
    assert "not compared" not in out


def test_without_tokenizers_the_decoder_is_compared_all_the_same(bundle_folder, run, monkeypatch):
    from laco_engines import bundle_check

    missing = "tokenizers"
    monkeypatch.setattr(bundle_check, "installed_version", lambda package: None if package.name == missing else "1")
    code, out, _ = run("diff", bundle_folder)
    assert code == 0
    assert "ok   decoder's prefill, 2 pictures" in out
    assert "answer, " not in out
    assert "not compared: the golden answers: tokenizers is not installed to answer with" in out


def put_nan_into_block_2(folder):
    import onnx

    graph = onnx.load(str(folder / "vision_b1.onnx"), load_external_data=False).graph
    stored = {tensor.name: tensor for tensor in graph.initializer if tensor.external_data}
    product = next(node for node in graph.node if node.op_type == "MatMul" and "layers.2." in node.name)
    place = {entry.key: entry.value for entry in stored[product.input[1]].external_data}
    with open(folder / "vision.data", "r+b") as file:
        file.seek(int(place["offset"]))
        file.write(np.float32("nan").tobytes())


def test_nan_names_the_part_and_the_block(with_files, run):
    code, out, _ = run("diff", with_files(put_nan_into_block_2))
    assert code == 1
    assert "first out of tolerance: vision_model.encoder.encoder.layers.2" in out
    assert "FAIL answer, a picture: the vision tower gives inf or NaN (1 of 1 pictures or tiles" in out
    assert "ok   answer, without a picture" in out
