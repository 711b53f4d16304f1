"""Passes of the decoder in ONNX Runtime alone against Optimum's."""

import numpy as np
import pytest
import torch

from laco_engines.generation.lean_decoder import open_lean_decoder
from laco_export.bundle import open_bundle, read_manifest, write_manifest
from laco_export.errors import BundleError, UsageError


@pytest.fixture(scope="module")
def optimum(needs_optimum, bundle):
    from laco_engines.generation.decoder import open_decoder

    return open_decoder(bundle, threads=1, provider="cpu")


@pytest.fixture(scope="module")
def decoder(bundle):
    return open_lean_decoder(bundle, threads=1, provider="cpu")


def random_ids(seed, length=12):
    return np.random.default_rng(seed).integers(10, 200, length)


@torch.inference_mode()
def expected_logits(optimum, ids):
    """Of every position, ``[T, V]``."""
    return optimum(input_ids=torch.from_numpy(ids)[None]).logits[0].numpy()


def test_a_prompt_and_steps_behind_it(decoder, optimum):
    """The cache has room for four positions, and grows in the prompt and in the steps; logits are Optimum's bits."""
    ids = random_ids(1, 90)
    expected = expected_logits(optimum, ids)
    cache = decoder.new_cache(4)
    first = decoder.prefill([decoder.embed(ids[:5])], cache, logits_to_keep=3)
    np.testing.assert_allclose(first[0], expected[2:5], atol=1e-5)
    np.testing.assert_allclose(decoder.prefill([decoder.embed(ids[5:9])], cache)[0, 0], expected[8], atol=1e-5)
    for position in range(9, 90):
        logits = decoder.step([ids[position]], cache, [True])
        np.testing.assert_allclose(logits[0], expected[position], atol=1e-5)
    assert cache.lengths == [90]


def test_rows_of_different_lengths_are_what_they_are_alone(decoder, optimum):
    rows = [random_ids(seed, length) for seed, length in ((2, 13), (3, 8), (4, 11))]
    expected = [expected_logits(optimum, row) for row in rows]
    cache = decoder.new_cache(9, batch=3)
    logits = decoder.prefill([decoder.embed(row[:-4]) for row in rows], cache)[:, 0]
    np.testing.assert_allclose(logits, [row[-5] for row in expected], atol=1e-5)
    for back in range(4, 0, -1):
        logits = decoder.step([row[-back] for row in rows], cache, [True] * 3)
        np.testing.assert_allclose(logits, [row[-back] for row in expected], atol=1e-5)
    assert cache.lengths == [13, 8, 11]


def test_a_row_that_has_ended_stays_as_it_is(decoder):
    ids = random_ids(5)
    cache = decoder.new_cache(20, batch=2)
    decoder.prefill([decoder.embed(ids)] * 2, cache)
    decoder.step([17, 18], cache, [False, True])
    assert cache.lengths == [12, 13]
    logits = decoder.step([30, 31], cache, [True, True]).copy()
    alone = decoder.new_cache(20)
    decoder.prefill([decoder.embed(ids)], alone)
    np.testing.assert_allclose(logits[0], decoder.step([30], alone, [True])[0], atol=1e-5)


def test_a_cropped_or_copied_cache_goes_on_from_there(decoder, optimum):
    ids, other = random_ids(6), random_ids(7, 5)
    cache = decoder.new_cache(64)
    decoder.prefill([decoder.embed(ids)], cache)
    copied = cache.copy(7)
    cache.crop(7)
    expected = expected_logits(optimum, np.concatenate([ids[:7], other]))
    for shortened in (cache, copied):
        logits = decoder.prefill([decoder.embed(other)], shortened, logits_to_keep=5)
        np.testing.assert_allclose(logits[0], expected[7:], atol=1e-5)


def test_several_rows_are_not_continued_by_more_than_a_token(decoder):
    cache = decoder.new_cache(20, batch=2)
    decoder.prefill([decoder.embed(random_ids(8))] * 2, cache)
    with pytest.raises(ValueError, match="one token at a time"):
        decoder.prefill([decoder.embed(random_ids(9, 2))] * 2, cache)


def test_beams_are_named_with_what_can_do_them(decoder):
    with pytest.raises(UsageError, match="no beams") as refused:
        decoder.generate(num_beams=3)
    assert refused.value.given == "num_beams"
    assert "text_runtime='optimum'" in refused.value.todo


def test_a_graph_that_cannot_be_read_is_an_error(bundle, tmp_path):
    import shutil

    shutil.copytree(bundle.path, tmp_path / "bundle")
    (tmp_path / "bundle" / bundle.manifest.decoder.graph).write_bytes(b"no graph")
    write_manifest(tmp_path / "bundle", read_manifest(tmp_path / "bundle"))
    with pytest.raises(BundleError, match="cannot be loaded"):
        open_lean_decoder(open_bundle(tmp_path / "bundle"), threads=1)
