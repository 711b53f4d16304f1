"""Parquet as ``datasets`` writes it: any row at once, row groups kept within bounds, lengths without pictures."""

import pickle

import numpy as np
import pytest

from laco_training.data import parquet_files
from laco_training.data.arrow_folders import ArrowSource
from laco_training.data.conversations import pictures_of, text_length
from laco_training.data.errors import DataError
from laco_training.data.parquet_files import ParquetSource
from laco_training.data.sources import open_source


@pytest.fixture
def rows(make_turns, make_picture):
    return [
        {
            "id": f"r{i}",
            "image": make_picture(i) if i % 3 else None,
            "conversations": make_turns(("<image>\n" if i % 3 else "") + "ä" * i, "yes"),
        }
        for i in range(25)
    ]


@pytest.fixture
def files(rows, write_parquet, tmp_path):
    write_parquet(rows[:10], tmp_path / "a.parquet", row_group=4)
    write_parquet(rows[10:], tmp_path / "b.parquet", row_group=7)
    return tmp_path


def check_rows(source, rows):
    assert len(source) == 25
    for index in [24, 0, 9, 10, 3, 4, 17, 16, *range(25)]:
        entry = source[index]
        assert entry["id"] == rows[index]["id"] and entry["conversations"] == rows[index]["conversations"]
        assert (entry["image"] is None) == (rows[index]["image"] is None)
        if entry["image"]:
            assert entry["image"]["bytes"].startswith(b"\x89PNG")
    indices = np.array([3, 4, 5, 11, 24, 0])
    pictures, lengths = source.lengths_of(indices)
    assert pictures.tolist() == [pictures_of(source[i]) for i in indices] == [0, 1, 1, 1, 0, 0]
    assert lengths.tolist() == [text_length(source[i]) for i in indices]


def test_rows_by_index(files, rows):
    source = open_source(files)
    check_rows(source, rows)
    assert source.group_starts.tolist() == [0, 4, 8, 10, 17, 24, 25]
    check_rows(pickle.loads(pickle.dumps(source)), rows)  # a spawned worker


def test_a_saved_dataset(rows, write_parquet, tmp_path):
    import datasets

    write_parquet(rows, tmp_path / "all.parquet")
    datasets.Dataset.from_parquet(str(tmp_path / "all.parquet"), cache_dir=str(tmp_path / "cache")).save_to_disk(
        tmp_path / "saved"
    )
    source = open_source(tmp_path / "saved")
    assert isinstance(source, ArrowSource)
    check_rows(source, rows)


def test_only_so_many_bytes_of_groups_are_kept(files, rows, monkeypatch):
    source = open_source(files)
    source[0]
    group = next(iter(source._tables.values())).nbytes
    monkeypatch.setattr(parquet_files, "GROUPS_BYTES", int(group * 2.5))
    for index in range(25):
        source[index]
        assert sum(table.nbytes for table in source._tables.values()) <= group * 2.5 or len(source._tables) == 1
    assert 0 not in source._tables


def test_lengths_read_no_picture(files, monkeypatch):
    import pyarrow.parquet as pq

    read, columns = pq.ParquetFile.read_row_group, []
    monkeypatch.setattr(
        pq.ParquetFile,
        "read_row_group",
        lambda self, i, columns_=None, **o: columns.append(o["columns"]) or read(self, i, **o),
    )
    open_source(files).lengths_of(np.arange(25))
    assert columns == [["conversations"]] * 6


def test_a_video_column(tmp_path, make_turns):
    import pyarrow as pa
    import pyarrow.parquet as pq

    conversations = [make_turns("<image>\n?", "a"), make_turns("<image>\n?", "a")]
    table = pa.table({"video": ["a.mp4", None], "image": [None, "a.png"], "conversations": conversations})
    pq.write_table(table, tmp_path / "v.parquet")
    source = ParquetSource([tmp_path / "v.parquet"])
    assert source.lengths_of(np.arange(2))[0].tolist() == [pictures_of(source[0]), pictures_of(source[1])] == [-1, 1]


def test_marks_are_counted_where_the_user_says_them(tmp_path, make_turns):
    import pyarrow as pa
    import pyarrow.parquet as pq

    conversations = [make_turns("<image>\nTag?", "<video> or <image>"), make_turns("What is <video>?", "<image>")]
    pq.write_table(pa.table({"image": ["a.png", None], "conversations": conversations}), tmp_path / "w.parquet")
    assert ParquetSource([tmp_path / "w.parquet"]).lengths_of(np.arange(2))[0].tolist() == [1, 0]


@pytest.mark.parametrize(
    "conversations",
    [
        ['[{"from": "human", "value": "hi"}]'],
        [{"from": ["human", "gpt"], "value": ["hi", "yo"]}],  # what datasets' Sequence of a dict once wrote
        [["hi", "yo"]],
        [[{"role": "user", "text": "hi"}]],
        [[{"from": "human", "value": 3}]],
    ],
)
def test_conversations_of_another_shape_are_refused(tmp_path, conversations):
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"conversations": conversations})
    pq.write_table(table, tmp_path / "odd.parquet")
    datasets.Dataset(table).save_to_disk(tmp_path / "saved")
    for path in (tmp_path / "odd.parquet", tmp_path / "saved"):
        with pytest.raises(DataError, match=rf"conversations of .*{path.name}' holds no lists of turns(.|\n)*given:"):
            open_source(path)


def test_a_damaged_row_group_is_met_as_broken_samples(tmp_path, write_parquet, make_turns, processor):
    import pyarrow.parquet as pq

    from laco_training.data import GroupedSampler, open_dataset

    rows = [{"id": str(i), "conversations": make_turns(f"{i}" * 300, "yes")} for i in range(40)]
    path = write_parquet(rows, tmp_path / "a.parquet", row_group=10)
    group, data = pq.ParquetFile(path).metadata.row_group(1), bytearray(path.read_bytes())
    for column in (group.column(number) for number in range(group.num_columns)):
        first = column.dictionary_page_offset or column.data_page_offset
        data[first : first + column.total_compressed_size] = b"\x55" * column.total_compressed_size
    path.write_bytes(data)
    dataset = open_dataset(path, processor)
    assert len(list(GroupedSampler(dataset, global_batch_size=4))) == 40
    notes = dataset[12]["notes"]
    assert notes.complete and notes.ids[0] not in map(str, range(10, 20))
    assert "a.parquet' is damaged in row group 1" in notes.broken[0].reason


def test_files_that_cannot_be_used(tmp_path, files):
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pytest.raises(DataError, match="there is no data file"):
        ParquetSource([tmp_path / "none.parquet"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="there are no parquet files"):
        open_source(tmp_path / "empty")
    with pytest.raises(DataError, match="there are no parquet files"):
        open_source(tmp_path / "x*.parquet")
    (tmp_path / "text.parquet").write_text("no parquet")
    with pytest.raises(DataError, match=r"text\.parquet' is not parquet"):
        ParquetSource([tmp_path / "text.parquet"])
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(DataError, match=r"no column conversations(.|\n)*given: +text"):
        ParquetSource([tmp_path / "other.parquet"])
    table = pq.read_table(tmp_path / "a.parquet").slice(0, 0)
    pq.write_table(table, tmp_path / "norows.parquet")
    with pytest.raises(DataError, match="holds no rows"):
        ParquetSource([tmp_path / "norows.parquet"])
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    data[4:100] = bytes(96)
    (tmp_path / "damaged.parquet").write_bytes(data)
    with pytest.raises(DataError, match="is damaged"):
        ParquetSource([tmp_path / "damaged.parquet"])[0]
