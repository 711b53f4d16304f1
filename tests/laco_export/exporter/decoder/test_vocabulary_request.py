"""What --vocabulary names is told apart, and refused before anything else is done."""

import json

import pytest

from laco_export.errors import UsageError
from laco_export.exporter.decoder.vocabulary_request import VocabularyRequest


@pytest.fixture
def write(tmp_path):
    """``write(name, content)``: a file; anything but text and bytes as JSON."""

    def save(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    return save


def test_texts_lines_and_documents_are_read_in_their_order(write):
    conversations = [{"image": "a.jpg", "turns": [{"value": "What?"}, {"value": "A cat."}], "score": 3}]
    files = [
        write("plain.txt", "One text.\nTwo lines."),
        write("lines.jsonl", '{"text": "first"}\n\n["second", {"deep": ["third"]}]\n'),
        write("llava.json", conversations),
        write("strings.json", ["one", "two"]),
    ]
    request = VocabularyRequest.read(files)
    assert list(request.texts()) == [
        *("One text.\nTwo lines.", "first", "second", "third", "a.jpg", "What?", "A cat.", "one", "two")
    ]
    assert (request.listed, request.source) == ((), "plain.txt, lines.jsonl, llava.json, strings.json")


def test_a_folder_is_read_with_its_subfolders(write, tmp_path):
    for name in ("texts/b.md", "texts/deep/a.txt", "texts/.hidden/c.txt", "texts/.d.txt", "texts/picture.png"):
        write(name, name)
    request = VocabularyRequest.read([tmp_path / "texts"])
    assert list(request.texts()) == ["texts/b.md", "texts/deep/a.txt"]


@pytest.mark.parametrize(
    ("document", "listed"),
    [
        ([3, 1, 2], (3, 1, 2)),
        ({"ids": [5]}, (5,)),
        ({"tokens": ["Ġthe", "a"], "ids": [7]}, ("Ġthe", "a", 7)),
    ],
)
def test_a_list_of_tokens_is_told_from_texts(write, document, listed):
    request = VocabularyRequest.read([write("list.json", document)], 40)
    assert (request.listed, request.files, request.size) == (listed, (), 40)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("nothing.txt", "  \n", "is empty"),
        ("latin1.txt", "Übermaß".encode("latin-1"), "it is not UTF-8"),
        ("bytes.txt", bytes(range(256)), "it is not UTF-8"),
        ("broken.json", '{"text": ', "is not JSON"),
        ("broken.jsonl", '{"text": "a"}\n{"text"\n', "is not JSON: line 2: "),
        ("deep.json", "[" * 100_000, "nested too deep"),
        ("numbers.json", [1.5, 2.5], "holds no text"),
        ("blank.jsonl", '{"text": " "}', "holds no text"),
        ("none.json", {"ids": []}, "is empty"),
        ("negative.json", {"ids": [3, -1]}, "the list of tokens"),
        ("flags.json", {"ids": [3, True]}, "the list of tokens"),
        ("mixed.json", {"tokens": ["a", 3]}, "the list of tokens"),
        ("single.json", {"tokens": "abc"}, "the list of tokens"),
    ],
)
def test_what_cannot_be_used_is_refused(write, name, content, says):
    with pytest.raises(UsageError, match=says) as caught:
        VocabularyRequest.read([write(name, content)])
    assert caught.value.allowed and name in f"{caught.value} {caught.value.given}"


def test_paths_and_sizes_that_do_not_go_together_are_refused(write, tmp_path):
    texts, tokens = write("a.txt", "words"), write("list.json", [1, 2])
    (tmp_path / "empty").mkdir()
    for paths, size, says in (
        ([tmp_path / "nowhere.txt"], None, "cannot be read: No such file"),
        ([tmp_path / "empty"], None, "there are no texts"),
        ([texts, tokens], None, "only file"),
        ([texts], 0, "a number of tokens"),
        ([texts], -3, "a number of tokens"),
    ):
        with pytest.raises(UsageError, match=says):
            VocabularyRequest.read(paths, size)
