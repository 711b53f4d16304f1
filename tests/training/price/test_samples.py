"""Pictures with questions: from a folder, from conversations, and those that cannot be used."""

import json

import pytest

from laco_export.conversation import DEFAULT_QUESTION
from laco_export.errors import UsageError
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
    with pytest.raises(UsageError, match="there are no pictures in"):
        find_samples(tmp_path, None, 8)
    with pytest.raises(UsageError, match="there is no folder of pictures"):
        find_samples(tmp_path / "nowhere", None, 8)
    with pytest.raises(UsageError, match="asks nothing about pictures"):
        find_samples(tmp_path, write_questions([{"id": "a", "conversations": []}]), 8)
