"""What a prompt begins with alike is taken from the KV cache, and nothing else is."""

import numpy as np
import pytest
import torch

from laco_engines.answering import Answerer
from laco_engines.generation.kv_cache import KVCache
from laco_engines.generation.prefix_cache import PrefixCache


def kv(length, value=0.0):
    layers = [(torch.full((1, 2, length, 4), value), torch.full((1, 2, length, 4), -value)) for _ in range(3)]
    return KVCache.from_legacy(layers)


def keys(*values):
    return np.asarray(values, np.int64)


def test_an_empty_cache_knows_nothing():
    assert PrefixCache().take(keys(1, 2, 3)) is None


def test_a_continuation_takes_the_entry_itself():
    cache, past = PrefixCache(), kv(3)
    cache.put(keys(1, 2, 3, 4), past)  # the last token was chosen and not read
    assert cache.take(keys(1, 2, 3, 4, 5)) is past
    assert len(cache) == 0  # it is being written into


def test_a_branch_gets_a_copy_and_leaves_the_entry():
    cache, past = PrefixCache(), kv(4, 2.0)
    cache.put(keys(1, 2, 3, 4), past)
    copied = cache.take(keys(1, 2, 7, 8))
    assert copied.get_seq_length() == 2
    assert copied[0][0].tolist() == past[0][0][:, :, :2].tolist()
    copied.buffers[0].fill_(9)
    assert past[0][0].unique().tolist() == [2.0]
    assert cache.take(keys(1, 2, 3, 4, 5)) is past


def test_the_same_prompt_again_computes_its_last_position():
    cache = PrefixCache()
    cache.put(keys(1, 2, 3), kv(3))
    assert cache.take(keys(1, 2, 3)).get_seq_length() == 2


def test_nothing_in_common_is_nothing():
    cache = PrefixCache()
    cache.put(keys(1, 2, 3), kv(3))
    assert cache.take(keys(2, 2, 3)) is None


def test_the_longest_of_several_is_taken():
    cache = PrefixCache()
    cache.put(keys(1, 2, 9), kv(3))
    cache.put(keys(1, 2, 3, 4, 9), kv(5))
    cache.put(keys(1, 8), kv(2))
    assert cache.take(keys(1, 2, 3, 4, 5, 6)).get_seq_length() == 4


def test_an_entry_that_is_continued_is_replaced():
    cache = PrefixCache()
    cache.put(keys(1, 2), kv(2))
    cache.put(keys(1, 2, 3), kv(3))
    assert len(cache) == 1


def test_the_least_recently_used_goes():
    cache = PrefixCache(max_entries=2)
    cache.put(keys(1, 1, 1), kv(3))
    cache.put(keys(2, 2, 2), kv(3))
    cache.take(keys(1, 1, 5, 5))  # used
    cache.put(keys(3, 3, 3), kv(3))
    assert cache.take(keys(2, 2, 5)) is None
    assert cache.take(keys(1, 1, 5)) is not None


def test_bytes_are_limited_but_for_the_last():
    size = kv(3).nbytes
    cache = PrefixCache(max_bytes=2 * size)
    for first in range(1, 5):
        cache.put(keys(first, 0, 0), kv(3))
    assert len(cache) == 2
    assert cache.nbytes == 2 * size
    small = PrefixCache(max_bytes=1)
    small.put(keys(1, 0, 0), kv(3))
    assert len(small) == 1


@pytest.fixture
def fresh(bundle):
    return Answerer(bundle, threads=1)


def counted(monkeypatch, answerer):
    """Positions of each prompt that are embedded."""
    lengths, embed = [], answerer.text.embed

    def counting(token_ids):
        lengths.append(token_ids.size)
        return embed(token_ids)

    monkeypatch.setattr(answerer.text, "embed", counting)
    return lengths


def test_further_questions_compute_only_what_is_new(fresh, answerer, make_picture, monkeypatch):
    lengths = counted(monkeypatch, fresh)
    answerer.forget()
    first = fresh.answer([make_picture(1)], "What is this?", max_new_tokens=8)
    assert first.cached_tokens == 0
    for question in ("What colour has it?", "What is this, then?", "How many?"):
        before = len(lengths)
        answer = fresh.answer([make_picture(1)], question, max_new_tokens=8)
        words = len(question) + len("<|im_end|>\n<|im_start|>assistant\n") - 2 * len("<|im_xxx|>")
        assert lengths[before] <= words + 4  # the question, the end of its turn and the beginning of the answer's
        assert answer.cached_tokens + lengths[before] == answer.prompt_tokens
        answerer.forget()
        assert answer.token_ids == answerer.answer([make_picture(1)], question, max_new_tokens=8).token_ids
    assert fresh.encoder.encoded == 1


def test_another_picture_is_not_taken_for_the_first(fresh, answerer, make_picture):
    fresh.answer([make_picture(1)], "What?", max_new_tokens=4)
    for pictures in ([make_picture(2)], [make_picture(1), make_picture(2)], []):
        answerer.forget()
        expected = answerer.answer(pictures, "What?", max_new_tokens=12)
        answer = fresh.answer(pictures, "What?", max_new_tokens=12)
        assert answer.token_ids == expected.token_ids
        assert answer.cached_tokens > 0  # the system line


def test_a_picture_at_the_same_place_as_words_is_not_taken_for_them(fresh, make_picture):
    prompter = fresh.prompter
    shown = prompter.prepare([make_picture(1)], "What?")
    other = prompter.prepare([make_picture(2)], "What?")
    np.testing.assert_array_equal(shown.input_ids, other.input_ids)
    differing = np.flatnonzero(shown.position_keys != other.position_keys)
    np.testing.assert_array_equal(differing, shown.image_positions)


def test_an_interrupted_answer_leaves_nothing_wrong_behind(fresh, make_picture):
    prompt = fresh.prompter.prepare([make_picture(1)], "What?")
    expected = fresh.generate(prompt, max_new_tokens=10).token_ids

    def interrupt(text):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fresh.generate(prompt, max_new_tokens=40, on_text=interrupt)
    assert fresh.generate(prompt, max_new_tokens=10).token_ids == expected
