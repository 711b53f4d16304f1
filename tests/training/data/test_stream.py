"""Parquet in a stream: everything once a pass, each process its share, resumed exactly; broken rows are skipped."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from laco_training.data import BrokenSamples, Collator, ConversationStream, DataError


@pytest.fixture
def folder(tmp_path, write_parquet, make_turns, make_picture):
    (tmp_path / "rows").mkdir()
    for file in range(3):
        rows = [
            {
                "id": f"{file}-{i}",
                "image": make_picture(i) if i % 4 else None,
                "conversations": make_turns(("<image>\n" if i % 4 else "") + "hi", "yo" * (i + 1)),
            }
            for i in range(10)
        ]
        write_parquet(rows, tmp_path / "rows" / f"{file}.parquet", row_group=4)
    return tmp_path / "rows"


def take(stream, batches, workers=0, size=3):
    taken = []
    loader = iter(stream.loader(size, workers=workers, collator=Collator(0)))
    for _ in range(batches):
        notes = next(loader)["notes"]
        stream.consumed(notes)
        taken.append(tuple(notes.ids))
    return taken


@pytest.fixture
def make_stream(folder, processor):
    def make(path=folder, **options):
        return ConversationStream(path, processor, **{"seed": 1, "shuffle_buffer": 4, **options})

    return make


def test_a_pass_has_every_row_once(make_stream):
    stream = make_stream()
    assert len(stream) == 30
    first, second = (sum(take(make_stream(), 20)[part], ()) for part in (slice(0, 10), slice(10, 20)))
    assert len(set(first)) == len(set(second)) == 30 and first != second
    assert sorted(first) != list(first)
    assert sum(take(make_stream(seed=2), 10), ()) != first


def test_processes_share_the_rows(make_stream):
    shares = [sum(take(make_stream(rank=rank, world_size=2), 5), ()) for rank in range(2)]
    assert len(set(shares[0]) | set(shares[1])) == 30
    files = [sum(take(make_stream(rank=rank, world_size=3), 3, workers=0), ()) for rank in range(3)]
    assert all(len({name[0] for name in share}) == 1 for share in files)  # as many files as processes: one each


@pytest.mark.parametrize(("workers", "stops"), [(0, (1, 4, 9, 10, 13)), (2, (3, 12))])
def test_a_resumed_stream_goes_on_exactly(make_stream, workers, stops):
    whole = take(make_stream(), 18, workers)
    for stop in stops:
        stream = make_stream()
        assert take(stream, stop, workers) == whole[:stop]
        resumed = make_stream()
        resumed.load_state_dict(json.loads(json.dumps(stream.state_dict())))
        assert take(resumed, 18 - stop, workers) == whole[stop:]


def test_a_position_of_other_processes_is_refused(make_stream):
    stream = make_stream()
    take(stream, 2)
    with pytest.raises(DataError, match="another number of processes"):
        make_stream(world_size=2).load_state_dict(stream.state_dict())
    resumed = make_stream()
    resumed.load_state_dict(stream.state_dict())
    with pytest.raises(DataError, match="another number of workers"):
        resumed.loader(3, workers=2, collator=Collator(0))


def test_a_remote_file_system(make_stream, folder):
    import fsspec

    memory = fsspec.filesystem("memory")
    for file in folder.iterdir():
        memory.pipe(f"/bucket/rows/{file.name}", file.read_bytes())
    remote = make_stream("memory://bucket/rows/*.parquet")
    assert len(remote) == 30
    assert take(remote, 10) == take(make_stream(), 10)


def test_broken_rows_are_skipped_and_named(tmp_path, write_parquet, make_turns, make_stream):
    rows = [{"id": f"r{i}", "conversations": make_turns("hi" if i % 3 else "<image>", "yo")} for i in range(12)]
    write_parquet(rows, tmp_path / "a.parquet")
    stream, log = make_stream(tmp_path / "a.parquet"), BrokenSamples(tmp_path / "log", limit=4, total=12)
    loader = iter(stream.loader(4, collator=Collator(0)))
    ids = []
    for _ in range(6):  # three passes
        notes = next(loader)["notes"]
        log.record(notes)
        ids += notes.ids
    assert len(set(ids)) == 8 and len(log) == 4
    write_parquet([{**row, "conversations": make_turns("<image>", "yo")} for row in rows], tmp_path / "b.parquet")
    batch = next(iter(make_stream(tmp_path / "b.parquet").loader(4, collator=Collator(0))))
    with pytest.raises(DataError, match="marks <image> and it names none"):
        BrokenSamples(tmp_path / "other", limit=1000, total=12).record(batch["notes"])


def test_broken_rows_without_an_id_count_each_and_once(tmp_path, write_parquet, make_turns, make_stream):
    rows = [{"id": "", "conversations": make_turns("hi" if i % 3 else f"<image>\n{i}?", "yo")} for i in range(12)]
    write_parquet(rows, tmp_path / "a.parquet")
    log = BrokenSamples(tmp_path / "log", limit=4, total=12)
    loader = iter(make_stream(tmp_path / "a.parquet").loader(4, collator=Collator(0)))
    for _ in range(6):  # three passes
        log.record(next(loader)["notes"])
    assert len(log) == 4
    names = [json.loads(line)["id"] for line in (tmp_path / "log").read_text().splitlines()]
    assert sorted(names) == sorted(f"without an id: <image> {i}?" for i in (0, 3, 6, 9))


def test_streams_that_cannot_be_read(tmp_path, make_stream, folder):
    with pytest.raises(DataError, match="there are no parquet files"):
        make_stream(tmp_path / "none")
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(DataError, match="only parquet can be streamed"):
        make_stream(tmp_path / "a.json")
    with pytest.raises(DataError, match="cannot be reached"):
        make_stream("nosuch://x/*.parquet")
    pq.write_table(pa.table({"conversations": ["hi"]}), tmp_path / "odd.parquet")
    with pytest.raises(DataError, match=r"conversations of parquet '.*odd\.parquet' holds no lists of turns"):
        len(make_stream(tmp_path / "odd.parquet"))
    (tmp_path / "text.parquet").write_text("no parquet")
    with pytest.raises(DataError, match="is not parquet"):
        len(make_stream(tmp_path / "text.parquet"))
    with pytest.raises(DataError, match=r"has no rows(.|\n)*fewer workers"):
        take(make_stream(rank=35, world_size=40), 1)
