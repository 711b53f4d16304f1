"""The order of a pass: complete, deterministic, grouped, resumable, and the same for any number of processes."""

import numpy as np
import pytest
import torch
from accelerate.data_loader import BatchSamplerShard, skip_first_batches

from laco_training.data import GroupedSampler, open_dataset


@pytest.fixture
def dataset(write_json, processor, make_turns):
    random = np.random.default_rng(0)
    kinds = [("", []), ("<image>", ["a.png"]), ("<image><image>", ["a.png", "a.png"])]
    entries = []
    for number in range(1003):
        marks, names = kinds[number % 3]
        answer = "a" * int(random.integers(1, 500))
        entries.append({"id": str(number), "image": names, "conversations": make_turns(marks, answer)})
    return open_dataset(write_json(entries), processor)


def order(dataset, **options):
    options = {"global_batch_size": 20, "seed": 5, **options}
    sampler = GroupedSampler(dataset, **options)
    return list(sampler)


@pytest.mark.parametrize("group_by", ["length", "none"])
def test_a_pass_is_complete_and_its_own(dataset, group_by):
    first = order(dataset, group_by=group_by)
    assert len(first) == len(set(first)) == 1000 == len(GroupedSampler(dataset, global_batch_size=20))
    assert first == order(dataset, group_by=group_by)
    assert first != order(dataset, group_by=group_by, seed=6)
    sampler = GroupedSampler(dataset, global_batch_size=20, seed=5, group_by=group_by)
    sampler.set_epoch(1)
    second = list(sampler)
    assert second != first and len(set(second)) == 1000
    sampler.set_epoch(0)
    assert list(sampler) == first


def waste(dataset, indices, size):
    """Share of a batch's positions that are padding."""
    lengths = dataset.lengths(np.asarray(indices)).reshape(-1, size)
    return 1 - lengths.sum() / (lengths.max(axis=1) * size).sum()


def test_batches_are_alike(dataset):
    grouped, plain = order(dataset), order(dataset, group_by="none")
    kinds = dataset.kinds(np.asarray(grouped)).reshape(-1, 20)
    assert (kinds.min(axis=1) == kinds.max(axis=1)).mean() >= 0.75  # four windows, two borders between kinds in each
    assert waste(dataset, plain, 5) > 0.3
    assert waste(dataset, grouped, 20) < 0.6 * waste(dataset, plain, 20)
    assert waste(dataset, grouped, 5) < 0.25 * waste(dataset, plain, 5)  # a global batch is sorted
    lengths = dataset.lengths(np.asarray(grouped)).reshape(-1, 20)
    assert lengths[0].max() == lengths[:13].max()  # the first window's longest comes first
    assert np.corrcoef(np.arange(50), lengths.mean(axis=1))[0, 1] < 0.4  # and no trend otherwise


def test_processes_share_each_global_batch(dataset):
    def step_sets(processes, per_device):
        batches = torch.utils.data.BatchSampler(GroupedSampler(dataset, global_batch_size=20, seed=5), per_device, True)
        shards = [list(BatchSamplerShard(batches, processes, rank)) for rank in range(processes)]
        accumulation = 20 // (processes * per_device)
        return [
            sorted(i for shard in shards for batch in shard[step * accumulation :][:accumulation] for i in batch)
            for step in range(50)
        ]

    assert step_sets(1, 20) == step_sets(1, 5) == step_sets(2, 5) == step_sets(4, 5) == step_sets(2, 10)


def test_a_resumed_run_reads_no_sample_that_it_skips(dataset, monkeypatch):
    """HF's Trainer skips by accelerate's loader: the indices are drawn again, the samples are not."""
    read, get = [], type(dataset).__getitem__
    monkeypatch.setattr(type(dataset), "__getitem__", lambda self, index: read.append(index) or get(self, index))
    sampler = GroupedSampler(dataset, global_batch_size=20, seed=5)
    loader = torch.utils.data.DataLoader(dataset, sampler=sampler, batch_size=10, collate_fn=len)
    assert sum(skip_first_batches(loader, 97)) == 30
    assert read == order(dataset)[970:]


def test_fewer_samples_than_a_global_batch(dataset):
    sampler = GroupedSampler(dataset, global_batch_size=2000)
    assert len(sampler) == 0 and list(sampler) == []


def test_row_groups_bound_the_windows(dataset, monkeypatch):
    monkeypatch.setattr(type(dataset), "read_together", 45)
    sampler = GroupedSampler(dataset, global_batch_size=20, seed=5)
    assert sampler._window() == 2
    plain = order(dataset, group_by="none")
    for start in range(0, 1000, 40):
        assert set(list(sampler)[start : start + 40]) == set(plain[start : start + 40])
