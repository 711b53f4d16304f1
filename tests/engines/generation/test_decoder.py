"""The decoder on Optimum against PyTorch's own: whole prompts, continued ones, padded batches, beams."""

import pytest
import torch

from laco_engines.generation.kv_cache import KVCache
from laco_export.bundle import open_bundle, read_manifest, write_manifest
from laco_export.errors import BundleError

open_decoder = pytest.importorskip(
    "laco_engines.generation.decoder", reason="needs Optimum, which allows no transformers 5", exc_type=ImportError
).open_decoder


@pytest.fixture(scope="module")
def pytorch(answering_model):
    return answering_model[0].language_model


@pytest.fixture(scope="module")
def decoder(bundle):
    return open_decoder(bundle, threads=1, provider="cpu")


def random_ids(seed: int, batch: int = 1, length: int = 12) -> torch.Tensor:
    return torch.randint(10, 200, (batch, length), generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def test_logits_are_those_of_pytorch(pytorch, decoder):
    ids = random_ids(0, batch=3)
    expected = pytorch(input_ids=ids).logits
    assert torch.allclose(decoder(input_ids=ids).logits, expected, atol=1e-4)
    assert torch.allclose(decoder(input_ids=ids, logits_to_keep=2).logits, expected[:, -2:], atol=1e-4)
    assert torch.allclose(decoder(inputs_embeds=decoder.embed(ids)).logits, expected, atol=1e-4)


@torch.inference_mode()
def test_steps_of_any_length_continue_a_cache(pytorch, decoder):
    """The cache has room for four positions and grows twice."""
    ids = random_ids(1, length=80)
    expected = pytorch(input_ids=ids).logits
    cache, parts = decoder.new_cache(4), []
    for start, stop in ((0, 3), (3, 4), (4, 10), (10, 75), (75, 80)):
        parts.append(decoder(input_ids=ids[:, start:stop], past_key_values=cache).logits)
        assert cache.get_seq_length() == stop <= cache.capacity
    assert torch.allclose(torch.cat(parts, 1), expected, atol=1e-4)


@torch.inference_mode()
def test_rows_padded_on_the_left_are_what_they_are_alone(decoder):
    """Also the steps after: rows of different lengths continue together, and a longer step continues them."""
    rows = [random_ids(seed, length=length) for seed, length in ((2, 9), (3, 4), (4, 7))]
    mask = torch.zeros(3, 9, dtype=torch.long)
    ids = torch.zeros(3, 9, dtype=torch.long)
    for index, row in enumerate(rows):
        mask[index, -row.shape[1] :], ids[index, -row.shape[1] :] = 1, row
    cache = decoder.new_cache(9, batch=3)
    logits = decoder(input_ids=ids, attention_mask=mask, past_key_values=cache, logits_to_keep=1).logits
    later = [random_ids(5, batch=3, length=length) for length in (1, 1, 3)]
    parts = [logits]
    for step in later:
        mask = torch.cat([mask, torch.ones_like(step)], 1)
        parts.append(decoder(input_ids=step, attention_mask=mask, past_key_values=cache).logits)
    for index, row in enumerate(rows):
        alone = decoder(input_ids=torch.cat([row, *(step[index : index + 1] for step in later)], 1)).logits
        assert torch.allclose(torch.cat(parts, 1)[index], alone[0, row.shape[1] - 1 :], atol=1e-4)


@torch.inference_mode()
def test_a_cropped_cache_goes_on_from_there(decoder):
    ids, other = random_ids(6), random_ids(7, length=5)
    cache = decoder.new_cache(64)
    decoder(input_ids=ids, past_key_values=cache)
    longer = cache.copy(8)
    for shortened in (cache, longer):
        shortened.crop(7)
        assert shortened.get_seq_length() == 7
        logits = decoder(input_ids=other, past_key_values=shortened).logits
        alone = decoder(input_ids=torch.cat([ids[:, :7], other], 1)).logits
        assert torch.allclose(logits, alone[:, 7:], atol=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"do_sample": False},
        {"num_beams": 3, "do_sample": False},
        {"do_sample": True, "temperature": 0.7, "top_p": 0.9},
        {"do_sample": True, "num_return_sequences": 3},
        {"do_sample": False, "repetition_penalty": 1.3},
    ],
)
@pytest.mark.parametrize("prompt", ["input_ids", "inputs_embeds", "both"])
def test_generate_chooses_the_tokens_that_pytorch_chooses(pytorch, decoder, options, prompt):
    for seed in range(3):
        ids = random_ids(seed, length=9)
        answers = []
        for model, embed in ((pytorch, pytorch.get_input_embeddings()), (decoder, decoder.embed)):
            inputs = {"input_ids": ids, "inputs_embeds": embed(ids)}
            if prompt != "both":
                inputs = {prompt: inputs[prompt]}
            torch.manual_seed(seed)
            answers.append(model.generate(**inputs, max_new_tokens=24, pad_token_id=0, **options))
        assert torch.equal(*answers)


@pytest.mark.parametrize("whole", [True, False])
def test_generate_continues_a_cache(decoder, whole):
    """With the embeddings of the whole prompt, or only of what the cache does not hold."""
    ids = random_ids(8, length=20)
    expected = decoder.generate(input_ids=ids, max_new_tokens=16, do_sample=False)
    cache = decoder.new_cache(20)
    with torch.inference_mode():
        decoder(input_ids=ids[:, :15], past_key_values=cache)
    embeds = decoder.embed(ids if whole else ids[:, 15:])
    continued = decoder.generate(
        input_ids=ids,
        inputs_embeds=embeds,
        attention_mask=torch.ones_like(ids),
        past_key_values=cache,
        max_new_tokens=16,
        do_sample=False,
    )
    assert torch.equal(continued, expected)


def test_a_cache_of_tuples_is_taken(decoder):
    ids = random_ids(9)
    cache = decoder.new_cache(12)
    with torch.inference_mode():
        decoder(input_ids=ids[:, :8], past_key_values=cache)
    legacy = tuple((key.clone(), value.clone()) for key, value in cache)
    options = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "max_new_tokens": 8, "do_sample": False}
    expected = decoder.generate(**options)
    assert torch.equal(decoder.generate(**options, past_key_values=legacy), expected)
    assert KVCache.from_legacy(legacy).get_seq_length() == 8


def test_generate_puts_the_threads_of_pytorch_back(decoder, monkeypatch):
    seen = []

    class Streamer:
        def put(self, tokens):
            seen.append(torch.get_num_threads())

        def end(self):
            raise RuntimeError("as a reader that went away")

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(RuntimeError, match="went away"):
            decoder.generate(input_ids=random_ids(10), max_new_tokens=2, do_sample=False, streamer=Streamer())
        assert set(seen) == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def sealed(folder):
    """The bundle in ``folder``, whatever its files are by now."""
    write_manifest(folder, read_manifest(folder))
    return open_bundle(folder)


def test_a_graph_that_cannot_be_read_is_an_error(bundle, tmp_path):
    import shutil

    shutil.copytree(bundle.path, tmp_path / "bundle")
    (tmp_path / "bundle" / bundle.manifest.decoder.graph).write_bytes(b"no graph")
    with pytest.raises(BundleError, match="cannot be loaded"):
        open_decoder(sealed(tmp_path / "bundle"), threads=1, provider="cpu")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"stop_strings": ["."]}, "stop_strings"),
        ({"max_time": 1.0}, "max_time"),
        ({"repetition_penalty": 0}, "repetition"),
    ],
    ids=str,
)
def test_generation_fields_are_a_white_list(bundle, tmp_path, fields, named):
    """Each would fail, or end, every request."""
    import json
    import shutil

    shutil.copytree(bundle.path, tmp_path / "bundle")
    path = tmp_path / "bundle" / bundle.manifest.decoder.folder / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    with pytest.raises(BundleError, match=named):
        open_decoder(sealed(tmp_path / "bundle"), threads=1, provider="cpu")
