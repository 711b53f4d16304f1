"""Pictures alone, wherever they lie, and some of them held out."""

import json
import tarfile
import zipfile

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from laco_training.data import DataError, hold_out, open_pictures, with_one_picture


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "inner").mkdir()
    for index in range(20):
        place = folder / "inner" if index % 2 else folder
        Image.new("RGB", (8, 8), (index, 0, 0)).save(place / f"{index:02d}.png")
    (folder / "._01.png").write_bytes(b"a Mac's")
    (folder / "notes.txt").write_text("no picture")
    return folder


def names_in(path):
    parts, root = open_pictures(path)
    return [part.source[int(row)]["image"] for part in parts for row in part.rows], root


def test_a_folder_and_archives_of_it_hold_the_same_pictures(folder, tmp_path):
    expected = sorted([f"{i:02d}.png" for i in range(0, 20, 2)] + [f"inner/{i:02d}.png" for i in range(1, 20, 2)])
    names, root = names_in(folder)
    assert sorted(names) == expected and root == folder
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for path in files:
            archive.write(path, path.relative_to(folder).as_posix())
    with tarfile.open(tmp_path / "all.tar", "w") as archive:
        for path in files:
            archive.add(path, f"./{path.relative_to(folder).as_posix()}")
    for name in ("all.zip", "all.tar"):
        names, root = names_in(tmp_path / name)
        assert sorted(names) == expected and root == tmp_path / name


def test_parquet_needs_no_conversations(folder, tmp_path):
    rows = [{"id": str(i), "image": {"bytes": (folder / "00.png").read_bytes(), "path": None}} for i in range(12)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=5)
    for path in (tmp_path / "a.parquet", tmp_path):
        parts, _ = open_pictures(path)
        assert len(parts[0].source) == 12
        assert parts[0].source[7]["image"]["bytes"].startswith(b"\x89PNG")
        assert parts[0].source.lengths_of(np.arange(3))[0].tolist() == [1, 1, 1]
    parquet.write_table(pyarrow.table({"id": ["1"], "text": ["no picture"]}), tmp_path / "text.parquet")
    with pytest.raises(DataError, match=r"no column of pictures(.|\n)*text: string"):
        open_pictures(tmp_path / "text.parquet")


@pytest.fixture
def conversations(folder, make_turns):
    """Two questions about each of ten pictures, one about two pictures, one about none."""
    entries = [
        {"id": f"{i}", "image": f"{2 * (i // 2):02d}.png", "conversations": make_turns("a", "b")} for i in range(20)
    ]
    entries.append({"id": "two", "image": ["00.png", "02.png"], "conversations": make_turns("a", "b")})
    entries.append({"id": "text", "conversations": make_turns("a", "b")})
    (folder / "data.json").write_text(json.dumps(entries))
    return folder / "data.json"


def test_of_conversations_those_with_pictures_are_taken(conversations):
    parts, root = open_pictures(conversations)
    assert parts[0].rows.tolist() == list(range(21)) and root == conversations.parent
    assert with_one_picture(conversations)[0][0].rows.tolist() == list(range(20))
    conversations.write_text(json.dumps(json.loads(conversations.read_text())[-1:]))
    with pytest.raises(DataError, match="names a picture"):
        open_pictures(conversations)


def test_no_picture_is_held_out_and_trained_on(conversations):
    parts, _ = with_one_picture(conversations)
    shown = lambda parts: {part.source[int(row)]["image"] for part in parts for row in part.rows}
    rest, aside = hold_out(parts, 50, seed=1)
    assert len(aside[0].rows) == 2  # a tenth of twenty
    assert not shown(rest) & shown(aside) and shown(rest) | shown(aside) == shown(parts)
    assert hold_out(parts, 50, seed=1)[1][0].rows.tolist() == aside[0].rows.tolist()
    assert any(hold_out(parts, 50, seed=seed)[1][0].rows.tolist() != aside[0].rows.tolist() for seed in range(5))


def test_paths_without_pictures(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    for path, said in (
        (tmp_path / "empty", "there are no pictures in"),
        (tmp_path / "nothing", "there are no pictures at"),
        (folder / "notes.txt", "of no known kind"),
    ):
        with pytest.raises(DataError, match=said):
            open_pictures(path)
    few = open_pictures(folder)[0]
    few[0].rows.resize(9, refcheck=False)
    with pytest.raises(DataError, match=r"too few pictures(.|\n)*9 pictures"):
        hold_out(few, 5, seed=0)
