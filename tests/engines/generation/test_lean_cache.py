"""The cache alone: what is counted, moved and kept. A cropped cache that goes on: test_lean_decoder.py."""

import numpy as np
import pytest

from laco_engines.generation.lean_cache import OrtKVCache


def filled(lengths=(6,), capacity=8):
    """Two layers; every position holds its own number, the same on every call."""
    cache = OrtKVCache(2, len(lengths), 1, 4, capacity, np.float32)
    cache.lengths = [capacity] * len(lengths)
    for index, buffer in enumerate(cache.read()):
        buffer[:] = np.arange(buffer.size).reshape(buffer.shape) + 1000 * index
    cache.lengths = list(lengths)
    return cache


def test_an_ort_value_is_the_arrays_memory():
    """Else what ONNX Runtime writes would not be what is read, copied and kept."""
    cache = filled()
    cache.read()[0][:] = 7
    np.testing.assert_array_equal(cache.values[0].numpy()[:, :, :6], 7)


def test_growing_keeps_what_is_held_and_drops_the_bindings():
    cache = filled(lengths=(3, 6))
    cache.bindings["step"] = object()
    held = [array.copy() for array in cache.read()]
    cache.reserve(8)
    assert cache.capacity == 8 and cache.bindings
    cache.reserve(9)
    assert cache.capacity >= 9 and not cache.bindings
    assert (cache.lengths, cache.batch, cache.get_seq_length()) == ([3, 6], 2, 6)
    for before, after in zip(held, cache.read(), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(("length", "expected"), [(None, 6), (4, 4), (99, 6)])
def test_a_copy_is_independent(length, expected):
    cache = filled()
    copied = cache.copy(length)
    before = [array.copy() for array in copied.read()]
    for array in cache.read():
        array[:] = 0
    cache.crop(1)
    assert (copied.get_seq_length(), cache.get_seq_length()) == (expected, 1)
    for old, new in zip(before, copied.read(), strict=True):
        np.testing.assert_array_equal(old, new)
        assert new.any()


def test_bytes_are_those_of_all_buffers():
    assert filled().nbytes == 2 * 2 * (8 * 4) * 4
    assert filled().copy(2, capacity=500).capacity == 500
