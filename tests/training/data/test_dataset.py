"""Samples by index: what stands in the place of broken ones, estimates, and row groups that are read together."""

import pickle

import datasets
import numpy as np
import pytest
import torch

from laco_training.data import (
    BrokenSamples,
    Collator,
    DataError,
    GroupedSampler,
    open_dataset,
    parquet_files,
)
from laco_training.data import dataset as dataset_module
from laco_training.data.parquet_files import ParquetSource


def usable(make_turns, number):
    return {"id": f"good{number}", "image": "a.png", "conversations": make_turns("<image>\nWhat?", str(number))}


def broken(make_turns, number):
    return {"id": f"bad{number}", "image": "gone.png", "conversations": make_turns("<image>\nWhat?", str(number))}


@pytest.fixture
def half_broken(make_turns, write_json, processor):
    entries = [usable(make_turns, i) if i % 2 else broken(make_turns, i) for i in range(40)]
    entries += [{"id": f"text{i}", "conversations": make_turns("hi", "yo")} for i in range(40)]
    path = write_json(entries)
    return lambda: open_dataset(path, processor)


def test_a_broken_samples_place_is_taken_by_another_of_its_kind(half_broken):
    dataset, again = half_broken(), half_broken()
    for index in range(40):
        sample, notes = dataset[index], dataset[index]["notes"]
        assert notes.complete and notes.ids[0].startswith("good")
        if index % 2:
            assert notes.ids == [f"good{index}"] and not notes.broken
        else:
            first = notes.broken[0]
            assert (first.index, first.id) == (index, f"bad{index}") and "gone.png' does not exist" in first.reason
        same = again[index]  # another process, another pass
        assert same["notes"] == notes and torch.equal(same["input_ids"], sample["input_ids"])
    taken = [dataset[index]["notes"].ids[0] for index in range(0, 40, 2)]
    assert len(set(taken)) > 5  # not one neighbour for all


def test_workers_read_what_one_process_reads(half_broken):
    dataset, collator = half_broken(), Collator(0)
    batches = [
        list(torch.utils.data.DataLoader(dataset, batch_size=8, collate_fn=collator, num_workers=workers))
        for workers in (0, 2)
    ]
    for alone, shared in zip(*batches, strict=True):
        assert alone.pop("notes") == shared.pop("notes")
        assert alone.keys() == shared.keys() and all(torch.equal(alone[name], shared[name]) for name in alone)


def test_a_dataset_goes_to_a_spawned_worker(half_broken):
    dataset = half_broken()
    expected = dataset[2]
    sample = pickle.loads(pickle.dumps(dataset))[2]  # after use, with what it keeps
    assert sample["notes"] == expected["notes"] and torch.equal(sample["input_ids"], expected["input_ids"])


def test_where_nothing_is_usable_the_notes_come_alone(make_turns, write_json, processor, tmp_path):
    dataset = open_dataset(write_json([broken(make_turns, i) for i in range(100)]), processor)
    sample = dataset[3]
    assert set(sample) == {"notes"} and not sample["notes"].complete
    assert 1 < len(sample["notes"].broken) <= dataset_module._TRIES + 1
    batch = Collator(0)([sample, sample])
    assert set(batch) == {"notes"}
    message = r"none of 33 samples that were tried(.|\n)*'bad3' of '.*data\.json': '.*gone\.png' does not exist"
    with pytest.raises(DataError, match=message):
        BrokenSamples(tmp_path / "log.jsonl", limit=1000, total=100).record(batch["notes"])


def test_the_only_sample_of_its_kind_gives_way_to_another_kind(make_turns, write_json, processor, tmp_path):
    entries = [{"id": f"text{i}", "conversations": make_turns("hi", "yo")} for i in range(40)]
    clip = {"id": "clip", "video": "gone.mp4", "conversations": make_turns("<video>\nWhat?", "it")}
    dataset = open_dataset(write_json([*entries, clip]), processor)
    notes = dataset[40]["notes"]
    assert notes.complete and notes.ids[0].startswith("text") and [sample.id for sample in notes.broken] == ["clip"]
    BrokenSamples(tmp_path / "log.jsonl", limit=1, total=41).record(notes)


def test_another_sample_is_found_without_reading_pictures(tmp_path, write_parquet, make_turns, make_picture, processor):
    rows = [{"id": str(i), "image": make_picture(i), "conversations": make_turns("<image>", "yo")} for i in range(120)]
    rows[7] = {"id": "7", "image": None, "conversations": make_turns("hi")}  # the only text
    dataset = open_dataset(write_parquet(rows, tmp_path / "a.parquet", row_group=3), processor)
    assert dataset[7]["notes"].complete
    # its own row group, and that of the sample in its place: not those of the samples that were looked at
    assert len(dataset.parts[0].source._tables) == 2


def test_a_sample_with_an_odd_shape_is_broken_and_no_crash(write_json, processor, make_turns):
    odd = [
        {"id": "o", "image": 7, "conversations": make_turns("<image>", "a")},
        {"id": "o", "image": {"a": 1}, "conversations": make_turns("<image>", "a")},
        {"id": "o", "conversations": "text"},
        {"id": "o", "conversations": [["from", "human"]]},
        {"id": "o", "video": [1, 2], "conversations": make_turns("<image>", "a")},
        {"id": "o"},
        {"id": "o", "image": "a.png\0", "conversations": make_turns("<image>", "a")},
    ]
    good = [usable(make_turns, 1), {"id": "t", "conversations": make_turns("hi", "yo")}]
    dataset = open_dataset(write_json(odd + good), processor)
    for index in range(len(odd)):
        notes = dataset[index]["notes"]
        assert notes.broken[0].id == "o" and notes.broken[0].index == index
    dataset.measure(np.arange(len(dataset)))
    assert dataset.counts()["kinds"]["text"] >= 1


def test_counts_are_scaled_up(write_json, processor, make_turns, monkeypatch):
    entries = [usable(make_turns, i % 10) if i % 4 else {"conversations": make_turns("hi", "yo")} for i in range(4000)]
    path = write_json(entries)
    exact = open_dataset(path, processor)
    monkeypatch.setattr(dataset_module, "_COUNTED", 10_000)
    whole = exact.counts()
    assert whole["kinds"] == {"text": 1000, "image": 3000}
    monkeypatch.undo()
    assert open_dataset(path, processor).counts()["estimated_tokens"] == pytest.approx(
        whole["estimated_tokens"], rel=0.02
    )


def test_an_index_outside(half_broken):
    dataset = half_broken()
    for index in (-1, 80):
        with pytest.raises(IndexError):
            dataset[index]


@pytest.fixture
def mixed(tmp_path, write_json, write_parquet, make_turns, make_picture, processor):
    """100 samples of JSON and 300 rows of parquet in 30 row groups, of which 240 rows are used."""
    write_json([{"id": f"j{i}", "conversations": make_turns("hi", "yo" * (i % 7))} for i in range(100)])
    rows = [
        {"id": f"p{i}", "image": make_picture(i), "conversations": make_turns("<image>", "a" * (i % 9))}
        for i in range(300)
    ]
    write_parquet(rows, tmp_path / "rows.parquet", row_group=10)
    (tmp_path / "m.yaml").write_text(
        "datasets: [{json_path: data.json}, {json_path: rows.parquet, sampling_strategy: 'first:80%'}]"
    )
    return open_dataset(tmp_path / "m.yaml", processor)


def test_row_groups_are_read_together_and_sources_stay_mixed(mixed, monkeypatch):
    source = mixed.parts[1].source
    budget = int(source.group_bytes[:6].sum())
    monkeypatch.setattr(dataset_module, "HANDFUL_BYTES", budget)
    assert mixed.read_together in range(80, 90)  # a quarter: 6 of 24 groups and their share of the JSON
    order = mixed.shuffled(np.random.default_rng(0))
    assert sorted(order.tolist()) == list(range(340))
    groups = [int(source.group_of(index - 100)) if index >= 100 else None for index in order]
    spans = {}
    for place, group in enumerate(groups):
        if group is not None:
            spans.setdefault(group, []).append(place)
    assert all(max(places) - min(places) < 125 for places in spans.values())  # once a pass, not all over it
    assert all(max(places) - min(places) >= 30 for places in spans.values())  # but mixed within the handful
    for start in range(0, 340, 85):
        assert 10 <= sum(group is None for group in groups[start : start + 85]) <= 40
    assert mixed.shuffled(np.random.default_rng(0)).tolist() == order.tolist()
    assert mixed.shuffled(np.random.default_rng(1)).tolist() != order.tolist()


@pytest.mark.parametrize("group_by", ["length", "none"])
@pytest.mark.parametrize("readers", [1, 4])
def test_each_reader_reads_a_row_group_about_once(
    tmp_path, write_parquet, make_turns, processor, monkeypatch, group_by, readers
):
    letters = np.random.default_rng(0).bytes(1000 * 500).hex()
    rows = [
        {"id": str(i), "conversations": make_turns("hi", letters[i * 1000 :][: 600 + i % 400])} for i in range(1000)
    ]
    path = write_parquet(rows, tmp_path / "rows.parquet", row_group=25)
    dataset = open_dataset(path, processor)
    held = int(dataset.parts[0].source.group_bytes[:8].sum())
    monkeypatch.setattr(parquet_files, "GROUPS_BYTES", held)
    monkeypatch.setattr(dataset_module, "HANDFUL_BYTES", held // 2)
    order = list(GroupedSampler(dataset, global_batch_size=16, group_by=group_by))
    for reader in range(readers):
        source, read = ParquetSource([path]), 0
        for index in np.asarray(order).reshape(-1, 4)[reader::readers].reshape(-1):  # forward passes of 4
            read += int(source.group_of(index)) not in source._tables
            source[int(index)]
        assert 30 <= read <= 1.2 * 40


def test_rows_that_hold_their_pictures_need_no_folder(tmp_path, write_parquet, make_turns, make_picture, processor):
    rows = [{"id": "p", "image": make_picture(), "conversations": make_turns("<image>", "a")}]
    write_parquet(rows, tmp_path / "rows.parquet")
    missing = tmp_path / "nowhere"
    assert open_dataset(tmp_path / "rows.parquet", processor, images=missing)[0]["notes"].ids == ["p"]
    named = [{"id": "n", "image": "a.png", "conversations": make_turns("<image>", "a")}]
    datasets.Dataset.from_list(named).to_parquet(tmp_path / "named.parquet")
    with pytest.raises(DataError, match=r"there is no images folder '.*nowhere'"):
        open_dataset(tmp_path / "named.parquet", processor, images=missing)


def test_measuring_many_sources(mixed):
    indices = np.array([339, 0, 150, 99, 100])
    kinds, lengths = mixed.measure(indices)
    assert kinds.tolist() == [1, 0, 1, 0, 1]
    assert lengths.tolist() == [4 + 7 + 239 % 9, 2, 4 + 7 + 50 % 9, 2 + 2 * (99 % 7), 4 + 7]
