"""JSON read sample by sample gives what ``json`` gives; what is said of files that are none."""

import json
import pickle

import pytest

from laco_training.data import json_files
from laco_training.data.errors import DataError
from laco_training.data.json_files import JsonSource, read_entries

TEXTS = ["plain", "漢字 mit Ümlaut", 'quotes " and \\ and \n', "{[}] , \\u00e9", "\U0001f600 \x7f\x85\xa0", "x" * 5000]


@pytest.fixture
def entries(make_turns):
    return [
        {"id": i, "image": [None, "a.png", ["a.png", "b.png"]][i % 3], "conversations": make_turns(TEXTS[i % 6], "yes")}
        for i in range(50)
    ] + [{"id": "v", "video": ["v.mp4", "w.mp4"], "conversations": make_turns("<video>\n" * 2, "ab")}]


@pytest.mark.parametrize("window", [1, 7, 1000, 8 << 20])
@pytest.mark.parametrize(("name", "indent", "ascii"), [("a.json", None, False), ("a.json", 2, True), ("a.jsonl", 0, 0)])
def test_every_sample_is_what_json_reads(tmp_path, entries, monkeypatch, window, name, indent, ascii):
    monkeypatch.setattr(json_files, "_WINDOW", window)
    path = tmp_path / name
    if name.endswith("l"):
        path.write_text("\n".join(json.dumps(entry, ensure_ascii=ascii) for entry in entries), "utf-8")
    else:
        path.write_text(json.dumps(entries, indent=indent, ensure_ascii=ascii), "utf-8")
    source = JsonSource(path)
    assert len(source) == 51
    assert [source[i] for i in range(51)] == entries == read_entries(path)
    assert pickle.loads(pickle.dumps(source))[50] == entries[50]  # a spawned worker
    assert source.pictures.tolist() == [0, 1, 2] * 16 + [0, 1, -2]
    texts = [sum(len(turn["value"].encode()) for turn in entry["conversations"]) for entry in entries]
    assert source.text_lengths.tolist() == texts  # a text that was written as \u-escapes is the same text


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b'\xef\xbb\xbf [{"id": 1}]')
    assert JsonSource(path)[0] == {"id": 1}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not a list of samples(.|\n)*no sample"),
        (b"[]", "is not a list of samples"),
        (b"{", "is not JSON"),
        (b'[{"id": 1}, {"id": 2', "is not JSON: .* at byte 20"),
        (b'[{"id": 1}, {"id": 2},', "is not JSON: the list does not end at byte 22"),
        (b'[{"id": 1}] x', "is not JSON: something follows"),
        (b'[{"id": 1}, {"id": }]', "is not JSON: .* at byte 19"),
        (b' {"data": [{"id": 1}]}', r"is not a list of samples(.|\n)*given: +one object that holds 'data'"),
        (b"[1, 2]", "is not a list of samples(.|\n)*entry 0 is int"),
        ("[{}]".encode("utf-16"), "is not UTF-8"),
        (b'[{"id": "\xe9"}]', "is not UTF-8"),
        (b"[" * 100_000, "is not JSON"),
    ],
)
def test_a_broken_file(tmp_path, data, message):
    path = tmp_path / "a.json"
    path.write_bytes(data)
    with pytest.raises(DataError, match=message):
        JsonSource(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"there is no data file(.|\n)*none\.json"):
        JsonSource(tmp_path / "none.json")
    with pytest.raises(DataError, match="cannot be read"):
        JsonSource(tmp_path)
