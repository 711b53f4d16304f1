"""Pictures with questions: from a folder, from conversations, and those that cannot be used."""

import json
import tarfile
import zipfile

import pyarrow
import pytest
from pyarrow import parquet

from laco_export.conversation import DEFAULT_QUESTION
from laco_export.errors import UsageError
from laco_training.data import DataError
from laco_training.price.samples import find_samples


def test_a_folder_is_asked_for_descriptions(photos):
    samples = find_samples(photos, None, 100)
    sample = samples[0]
    assert len(samples) == 7
    assert (sample.name, sample.question, len(sample.pictures)) == ("0.png", DEFAULT_QUESTION, 1)
    assert sample.turns == [("user", f"<image>\n{DEFAULT_QUESTION}")]


def test_a_few_are_spread_over_all(photos):
    samples = find_samples(photos, None, 3)
    assert [samples[place].name for place in range(2)] == ["0.png", "3.png"] and len(samples) == 3


def test_broken_pictures_are_named_and_left_out(photos):
    samples = find_samples(photos, None, 100)
    samples.drop_broken(0.2)
    assert len(samples) == 6 and list(samples.broken) == ["broken.png"]
    assert "broken.png" in samples.describe_broken()


def test_more_broken_pictures_than_are_allowed(photos):
    with pytest.raises(UsageError, match="1 of 7 samples cannot be used") as caught:
        find_samples(photos, None, 100).drop_broken(0.1)
    assert "broken.png" in str(caught.value)


def test_none_that_can_be_read(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(UsageError, match="1 of 1 samples"):
        find_samples(tmp_path, None, 100).drop_broken(1.0)


@pytest.fixture
def write_questions(tmp_path):
    def write(entries):
        path = tmp_path / "questions.json"
        path.write_text(json.dumps(entries))
        return path

    return write


def entry(name, *turns, images="0.png"):
    roles = ("human", "gpt")
    return {
        "id": name,
        "image": images,
        "conversations": [{"from": roles[place % 2], "value": text} for place, text in enumerate(turns)],
    }


def test_the_first_question_of_conversations(photos, write_questions):
    path = write_questions(
        [
            entry("a", "<image>\nWhat?", "Noise.", "Sure?"),
            entry("b", "<image><image>\nSame?", images=["1.png", "2.png"]),
            {"id": "c", "conversations": [{"from": "human", "value": "Hello"}]},
        ]
    )
    samples = find_samples(photos, path, 100)
    samples.drop_broken(0.0)
    first, second = samples[0], samples[1]
    assert len(samples) == 2, "text alone is no sample"
    assert (first.question, len(first.turns)) == ("What?", 1)
    assert (second.question, len(second.pictures)) == ("Same?", 2)


@pytest.mark.parametrize(
    "broken",
    [
        entry("lost", "<image>\nWhat?", images="nowhere.png"),
        entry("unmarked", "What?"),
        {"id": "silent", "image": "0.png", "conversations": []},
        {"id": "answers", "image": "0.png", "conversations": [{"from": "gpt", "value": "Noise."}]},
    ],
    ids=lambda broken: broken["id"],
)
def test_conversations_that_cannot_be_used(photos, write_questions, broken):
    samples = find_samples(photos, write_questions([entry("a", "<image>\nWhat?"), broken]), 100)
    samples.drop_broken(0.5)
    assert list(samples.broken) == [broken["id"]] and len(samples) == 1


def test_no_pictures(tmp_path, write_questions):
    for images, questions, said in (
        (tmp_path, None, "there are no pictures in"),
        (tmp_path / "nowhere", None, "there are no pictures at"),
        (tmp_path, write_questions([{"id": "a", "conversations": []}]), "no sample of .* asks about a picture"),
        (tmp_path, tmp_path, "holds no conversations"),
    ):
        with pytest.raises(DataError, match=said):
            find_samples(images, questions, 8)


@pytest.mark.parametrize("form", ["zip", "tar", "parquet", "conversations", "mixture"])
def test_pictures_lie_in_whatever_training_reads(photos, write_questions, tmp_path, form):
    path = tmp_path / f"all.{form}"
    files = sorted(photos.glob("[0-9].png"))
    if form == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in files:
                archive.write(file, file.name)
    elif form == "tar":
        with tarfile.open(path, "w") as archive:
            for file in files:
                archive.add(file, file.name)
    elif form == "parquet":
        rows = [{"image": {"bytes": file.read_bytes(), "path": None}} for file in files]
        parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=4)
    else:
        path = write_questions([entry(file.name, "<image>\nWhat?", images=file.name) for file in files])
        for file in files:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    if form == "mixture":
        path = tmp_path / "mixture.yaml"
        path.write_text("datasets: [{json_path: questions.json, sampling_strategy: all}]")
    samples = find_samples(path, None, 100)
    samples.drop_broken(0.0)
    expected = find_samples(photos, None, 100)
    assert len(samples) == len(files)
    for place in range(len(samples)):
        assert samples[place].pictures[0].tobytes() == expected[place].pictures[0].tobytes()
        assert samples[place].question == DEFAULT_QUESTION
    if form == "parquet":
        assert samples[5].name == f"{path}:5", "rows without an id are named by their place"


def test_questions_beside_pictures_in_parquet(photos, tmp_path):
    rows = [{"image": {"bytes": (photos / "3.png").read_bytes(), "path": None}, **_asks("<image>\nWhat?")}]
    rows.append({"image": None, **_asks("Hello")})
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "all.parquet")
    samples = find_samples(tmp_path / "all.parquet", tmp_path / "all.parquet", 100)
    assert [samples[place].question for place in range(len(samples))] == ["What?"]


def _asks(text):
    return {"conversations": [{"from": "human", "value": text}]}


def test_samples_that_are_found_unusable_later(photos):
    """They count beside those that cannot be read, also where two have one name."""
    samples = find_samples(photos, None, 100)
    samples.drop_broken(0.2)

    def refuse(sample):
        if sample.name in ("1.png", "4.png"):
            raise UsageError("too long", given="more")

    with pytest.raises(UsageError, match="3 of 7 samples cannot be used"):
        samples.drop_broken(0.3, refuse)
    assert samples.broken["4.png"] == "too long" and samples.dropped == 3 and len(samples) == 4


def test_broken_samples_of_one_name_are_counted_each(photos, write_questions):
    lost = entry("same", "<image>\nWhat?", images="nowhere.png")
    samples = find_samples(photos, write_questions([entry("a", "<image>\nWhat?"), lost, lost]), 100)
    with pytest.raises(UsageError, match="2 of 3 samples cannot be used"):
        samples.drop_broken(0.5)
