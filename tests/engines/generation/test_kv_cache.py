"""The cache alone: what is counted, moved and kept."""

import pytest
import torch

from laco_engines.generation.kv_cache import KVCache


def filled(batch: int = 2, columns: int = 6, capacity: int = 8) -> KVCache:
    """Two layers; every position holds its own number, the same on every call."""
    cache = KVCache(2, batch, 1, 4, capacity, torch.float32, torch.device("cpu"))
    for index, buffer in enumerate(cache.buffers):
        buffer.copy_(torch.arange(buffer.numel()).reshape(buffer.shape) + 1000 * index)
    cache.append(torch.ones(batch, columns, dtype=torch.bool))
    return cache


def test_padding_is_counted_in_columns_but_takes_no_position():
    cache = filled(columns=0)
    cache.append(torch.tensor([[False, True, True], [True, True, True]]))
    assert (cache.get_seq_length(), cache.lengths) == (3, [2, 3])
    cache.append(torch.ones(2, 1, dtype=torch.bool))
    assert (cache.get_seq_length(), cache.lengths) == (4, [3, 4])
    cache.crop(2)
    assert (cache.get_seq_length(), cache.lengths) == (2, [1, 2])
    cache.crop(-1)
    assert (cache.get_seq_length(), cache.lengths) == (1, [0, 1])


def test_growing_keeps_what_is_held_and_drops_the_bindings():
    cache = filled()
    cache.bindings["rows"] = object()
    held = [tensor.clone() for layer in cache for tensor in layer]
    cache.reserve(8)
    assert cache.capacity == 8 and cache.bindings
    cache.reserve(9)
    assert cache.capacity >= 9 and not cache.bindings
    assert all(torch.equal(a, b) for a, b in zip(held, (tensor for layer in cache for tensor in layer), strict=True))


@pytest.mark.parametrize(("length", "columns"), [(None, 6), (4, 4), (99, 6)])
def test_a_copy_is_independent(length, columns):
    cache = filled()
    new = cache.copy(length)
    assert new.get_seq_length() == columns
    before = [tensor.clone() for layer in new for tensor in layer]
    for buffer in cache.buffers:
        buffer.zero_()
    cache.crop(1)
    assert new.get_seq_length() == columns
    assert all(torch.equal(a, b) for a, b in zip(before, (tensor for layer in new for tensor in layer), strict=True))


def test_rows_are_reordered_and_repeated():
    cache = filled(batch=2)
    cache.append(torch.tensor([[True], [False]]))
    first, second = cache.buffers[0].clone()
    cache.batch_repeat_interleave(2)
    assert cache.batch == 4 and cache.lengths == [7, 7, 6, 6]
    assert torch.equal(cache.buffers[0], torch.stack([first, first, second, second]))
    cache.reorder_cache(torch.tensor([3, 0, 0, 1]))
    assert cache.lengths == [6, 7, 7, 7]
    assert torch.equal(cache.buffers[0][0], second)


def test_bytes_and_layers():
    cache = filled()
    assert len(cache) == 2
    assert cache.nbytes == 2 * 2 * (2 * 1 * 8 * 4) * 4
    key, value = cache[1]
    assert key.shape == value.shape == (2, 1, 6, 4)
    assert key[0, 0, 0, 0] == 2000 and value[0, 0, 0, 0] == 3000
