import json

import pytest

from laco_calibration.errors import CalibrationError
from laco_calibration.source.held_out import JUDGES, divide
from laco_calibration.source.picture_set import find_pictures, find_questions, questions_about, readable


@pytest.fixture
def folder(tmp_path, photographs):
    """Three photographs, one of them twice, in subfolders."""
    names = sorted(path.name for path in photographs.iterdir())[:3]
    (tmp_path / "b").mkdir()
    for name in names:
        (tmp_path / "b" / name).write_bytes((photographs / name).read_bytes())
    (tmp_path / "again.png").write_bytes((photographs / names[0]).read_bytes())
    (tmp_path / "notes.md").write_text("no picture")
    return tmp_path


def test_a_folder_with_subfolders_counts_equal_files_once(folder):
    found = find_pictures([folder])
    assert len(found.found) == 3 and found.duplicates == 1
    assert len({picture.sha256 for picture in found.found}) == 3


def test_a_list_names_paths_relative_to_itself(folder):
    (folder / "list.txt").write_text("# chosen\nagain.png\nmissing.png\n")
    found = find_pictures([folder / "list.txt"])
    assert [picture.path.name for picture in found.found] == ["again.png"]
    assert found.broken == {str(folder / "missing.png"): "does not exist"}


def test_training_data_brings_its_questions(folder):
    turns = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": " a cat "}]
    entries = [{"id": "1", "image": "again.png", "conversations": turns}, {"id": "2", "conversations": turns[:0]}]
    (folder / "data.json").write_text(json.dumps(entries))
    (folder / "data.jsonl").write_text("\n".join(map(json.dumps, entries)))
    for name in ("data.json", "data.jsonl"):
        found = find_pictures([folder / name])
        assert [(q.text, q.truth) for q in found.questions] == [("<image>\nWhat is it?", "a cat")]
        assert questions_about(found, found.found, "?") == ["<image>\nWhat is it?"]


def test_sources_add_up(folder):
    found = find_pictures([folder / "b", folder / "again.png"])
    assert len(found.found) == 3 and found.duplicates == 1


@pytest.mark.parametrize("name", ["empty", "nowhere"])
def test_an_empty_or_missing_folder_is_refused(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CalibrationError, match=r"no pictures|does not exist"):
        find_pictures([tmp_path / name])


def test_broken_pictures_are_named(folder, fp32_bundle):
    (folder / "torn.png").write_bytes((folder / "again.png").read_bytes()[:2000])
    (folder / "text.jpg").write_text("no picture at all")
    pictures = find_pictures([folder])
    kept = readable(pictures, fp32_bundle, pictures.found)
    assert len(kept) == 3
    assert sorted(path.rpartition("/")[2] for path in pictures.broken) == ["text.jpg", "torn.png"]
    assert "text.jpg" in pictures.describe_broken()


def test_judging_pictures_are_held_back_where_there_are_enough(photographs, fp32_bundle):
    many = divide(find_pictures([photographs]), fp32_bundle, limit=None, minimum=4)
    assert many.held_out and len(many.judging) == JUDGES == len(many.tiles)
    assert not {one.sha256 for one in many.judging} & {one.sha256 for one in many.looked_at}

    few = divide(find_pictures([photographs]), fp32_bundle, limit=10, minimum=4)
    assert not few.held_out and len(few.looked_at) == 10


def test_nothing_readable_is_refused(tmp_path, fp32_bundle):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_text(name)
    with pytest.raises(CalibrationError, match="none of the pictures can be read") as raised:
        divide(find_pictures([tmp_path]), fp32_bundle, limit=None, minimum=1)
    assert "2 broken" in str(raised.value) and "b.png" in str(raised.value)


def test_broken_files_do_not_use_up_the_pictures_to_look_at(folder, photographs, fp32_bundle):
    """Eight that can be read among twelve that cannot: they judge and are looked at, instead of only judging."""
    for index, path in enumerate(sorted(photographs.iterdir())[:JUDGES]):
        (folder / f"0{index}.png").write_bytes(path.read_bytes())
    for index in range(12):
        (folder / f"z{index}.png").write_text(f"broken {index}")
    division = divide(find_pictures([folder]), fp32_bundle, limit=None, minimum=4)
    assert not division.held_out
    assert {one.sha256 for one in division.judging} <= {one.sha256 for one in division.looked_at}


def test_a_list_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CalibrationError, match=r"list\.txt' is not UTF-8"):
        find_pictures([tmp_path / "list.txt"])


def test_a_list_may_begin_with_a_byte_order_mark(folder):
    (folder / "list.txt").write_bytes(b"\xef\xbb\xbfagain.png\n")
    assert len(find_pictures([folder / "list.txt"]).found) == 1


def test_a_broken_sample_is_named(folder):
    good = {"image": "again.png", "conversations": [{"from": "human", "value": "What?"}]}
    (folder / "data.json").write_text(json.dumps([good, {"image": "again.png", "conversations": "What?"}]))
    with pytest.raises(CalibrationError, match=r"data\.json', sample 1: it has no conversations"):
        find_pictures([folder / "data.json"])


def test_questions_come_from_training_data_alone(folder):
    with pytest.raises(CalibrationError, match="asks nothing"):
        find_questions(folder)
