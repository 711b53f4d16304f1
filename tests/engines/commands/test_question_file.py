"""What ``--questions`` and ``--images`` become."""

import json

import pytest

from laco_engines.commands.question_file import read_questions
from laco_export.errors import LacoError, UsageError


@pytest.fixture
def pictures(tmp_path, make_picture):
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    for seed, name in enumerate(("b.png", "a.jpg", "more/c.png")):
        make_picture(seed).save(folder / name)
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture
def write(tmp_path):
    def to(name, content):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return to


def test_lines_are_asked_about_every_picture(pictures, write):
    asked = read_questions(write("q.txt", "\ufeffWhat is this?\n\n  Où ?  \n"), pictures)
    assert [(question.names[0], question.text) for question in asked] == [
        (name, text) for name in ("a.jpg", "b.png", "more/c.png") for text in ("What is this?", "Où ?")
    ]
    assert all(question.truth is None for question in asked)


def conversation(*turns):
    return [{"from": speaker, "value": text} for speaker, text in turns]


def test_samples_as_the_trainer_takes_them(pictures, write):
    entries = [
        {"id": "x", "image": "b.png", "kind": "word", "conversations": conversation(
            ("human", "<image>\nWhat?"), ("gpt", " green "), ("human", "And?"), ("gpt", "no"))},
        {"images": ["a.jpg", "more/c.png"], "conversations": conversation(("system", "Be brief."), ("user", "Which?"))},
        {"conversations": conversation(("human", "No picture?"), ("gpt", "none"))},
        {"image": "a.jpg"},
    ]  # fmt: skip
    first, second = read_questions(write("q.json", entries), pictures)
    assert (first.id, first.kind, first.words, first.truth) == ("x", "word", "What?", " green ")
    assert first.is_right("green")
    assert (second.id, second.names, second.truth) == ("1", ("a.jpg", "more/c.png"), None)


@pytest.mark.parametrize("count", [1, 2])
def test_json_lines_with_question_and_answer(pictures, write, count):
    entry = {"image": "b.png", "question": "What?", "answer": "green"}
    lines = "".join(json.dumps(entry) + "\n" for _ in range(count))
    asked = read_questions(write("q.jsonl", lines), pictures)
    assert [(question.text, question.truth) for question in asked] == [("What?", "green")] * count


def test_missing_pictures_are_all_named_once(pictures, write):
    entries = [{"image": name, "question": "?"} for name in ("b.png", "no.png", "gone/x.png", "no.png")]
    with pytest.raises(UsageError) as error:
        read_questions(write("q.json", entries), pictures)
    assert "2 pictures" in error.value.failed
    assert error.value.given == "no.png, gone/x.png"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("q.txt", " \n\n", "asks nothing"),
        ("q.json", [{"image": "b.png"}], "asks nothing"),
        ("q.json", [{"image": "b.png", "question": 7}], "sample 0: its question or its answer is no text"),
        ("q.json", [{"image": "b.png", "question": "?", "answer": ["a"]}], "sample 0: its question or its answer"),
        ("q.json", [{"image": "b.png", "conversations": [{"from": "cat", "value": "?"}]}], "sample 0: unknown speaker"),
        ("q.json", "[{", "is not JSON"),
        ("q.json", {"images": [1], "annotations": []}, "is not a list of samples"),
    ],
)
def test_a_file_that_asks_nothing_is_told(pictures, write, name, content, says):
    with pytest.raises(LacoError, match=says):
        read_questions(write(name, content), pictures)


def test_bytes_that_are_no_text_are_told(pictures, tmp_path):
    (tmp_path / "q.txt").write_bytes(b"\xff\xfe?")
    with pytest.raises(UsageError, match="is not UTF-8"):
        read_questions(tmp_path / "q.txt", pictures)


def test_places_that_are_not_there_are_told(pictures, write, tmp_path):
    with pytest.raises(UsageError, match="is not a folder"):
        read_questions(write("q.txt", "?"), tmp_path / "nope")
    with pytest.raises(UsageError, match="is not a file"):
        read_questions(tmp_path / "nope.txt", pictures)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="there are no pictures"):
        read_questions(write("q.txt", "?"), tmp_path / "empty")
