import json

import pytest

from laco_calibration.errors import CalibrationError
from laco_calibration.source.picture_set import find_pictures, find_questions, questions_about, readable


def test_a_folder_with_subfolders_counts_equal_files_once(folder):
    picture_set = find_pictures([folder])
    assert len(picture_set.pictures) == 3 and picture_set.duplicates == 1
    assert len({picture.sha256 for picture in picture_set.pictures}) == 3


def test_a_list_names_paths_relative_to_itself(folder):
    (folder / "list.txt").write_text("# chosen\nagain.png\nmissing.png\n")
    picture_set = find_pictures([folder / "list.txt"])
    assert [picture.path.name for picture in picture_set.pictures] == ["again.png"]
    assert picture_set.broken == {str(folder / "missing.png"): "does not exist"}


def test_training_data_brings_its_questions(folder):
    turns = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": " a cat "}]
    entries = [{"id": "1", "image": "again.png", "conversations": turns}, {"id": "2", "conversations": turns[:0]}]
    (folder / "data.json").write_text(json.dumps(entries))
    (folder / "data.jsonl").write_text("\n".join(map(json.dumps, entries)))
    for name in ("data.json", "data.jsonl"):
        picture_set = find_pictures([folder / name])
        assert [(q.text, q.truth) for q in picture_set.questions] == [("<image>\nWhat is it?", "a cat")]
        assert questions_about(picture_set, picture_set.pictures, "?") == ["<image>\nWhat is it?"]


def test_sources_add_up(folder):
    picture_set = find_pictures([folder / "b", folder / "again.png"])
    assert len(picture_set.pictures) == 3 and picture_set.duplicates == 1


@pytest.mark.parametrize("name", ["empty", "nowhere"])
def test_an_empty_or_missing_folder_is_refused(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CalibrationError, match=r"no pictures|does not exist"):
        find_pictures([tmp_path / name])


def test_broken_pictures_are_named(folder, fp32_bundle):
    (folder / "torn.png").write_bytes((folder / "again.png").read_bytes()[:2000])
    (folder / "text.jpg").write_text("no picture at all")
    picture_set = find_pictures([folder])
    assert len(readable(picture_set, fp32_bundle, picture_set.pictures)) == 3
    assert sorted(path.rpartition("/")[2] for path in picture_set.broken) == ["text.jpg", "torn.png"]
    assert "text.jpg" in picture_set.describe_broken()


def test_a_list_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CalibrationError, match=r"list\.txt' is not UTF-8"):
        find_pictures([tmp_path / "list.txt"])


def test_a_list_may_begin_with_a_byte_order_mark(folder):
    (folder / "list.txt").write_bytes(b"\xef\xbb\xbfagain.png\n")
    assert len(find_pictures([folder / "list.txt"]).pictures) == 1


def test_a_broken_sample_is_named(folder):
    good = {"image": "again.png", "conversations": [{"from": "human", "value": "What?"}]}
    (folder / "data.json").write_text(json.dumps([good, {"image": "again.png", "conversations": "What?"}]))
    with pytest.raises(CalibrationError, match=r"data\.json', sample 1: it has no conversations"):
        find_pictures([folder / "data.json"])


def test_questions_come_from_training_data_alone(folder):
    with pytest.raises(CalibrationError, match="asks nothing"):
        find_questions(folder)
