import json

import pytest

from laco_engines.evaluation.answer_file import AnswerFile, answer_key, failed_answers, model_identity
from laco_export.errors import UsageError

MODEL = model_identity("abc", "1/4", None)


def record(key, answer="A", failed=None):
    return {"key": key, "task": "ai2d", "doc_id": 0, "question": "?", "answer": answer, "failed": failed}


def filled(folder, *records, rank=0):
    answers = AnswerFile(folder, MODEL, rank)
    for each in records:
        answers.add(each)
    answers.close()


def test_a_later_run_has_the_answers_of_every_process(tmp_path):
    filled(tmp_path, record("a"))
    filled(tmp_path, record("b", "B"), rank=1)
    later = AnswerFile(tmp_path, MODEL)
    assert {key: entry["answer"] for key, entry in later.answers.items()} == {"a": "A", "b": "B"}


def test_a_line_that_a_kill_cut_off_is_asked_again(tmp_path):
    filled(tmp_path, record("a"))
    with open(tmp_path / "rank-0.jsonl", "a") as file:
        file.write('{"key": "b", "answ')
    filled(tmp_path, record("c"))
    assert set(AnswerFile(tmp_path, MODEL).answers) == {"a", "c"}


@pytest.mark.parametrize(
    "other",
    [
        model_identity("abd", "1/4", None),
        model_identity("abc", "1/2", None),
        model_identity("abc", "1/4", None, provider="cuda"),
    ],
)
def test_answers_of_another_model_are_refused(tmp_path, other):
    filled(tmp_path, record("a"))
    with pytest.raises(UsageError, match="another model"):
        AnswerFile(tmp_path, other)
    assert len((tmp_path / "rank-0.jsonl").read_text().splitlines()) == 2


def test_a_damaged_line_is_named(tmp_path):
    filled(tmp_path, record("a"), record("b"))
    lines = (tmp_path / "rank-0.jsonl").read_text().splitlines()
    (tmp_path / "rank-0.jsonl").write_text("\n".join([lines[0], "{", lines[2], ""]))
    with pytest.raises(UsageError, match="line 2"):
        AnswerFile(tmp_path, MODEL)


def test_what_could_not_be_asked_is_counted_by_cause(tmp_path):
    filled(
        tmp_path, record("a", failed="no video"), record("b", failed="no video"), record("c"), record("d", failed="x")
    )
    filled(tmp_path, record("d"))  # asked again, and answered
    assert failed_answers(tmp_path) == {"no video": 2}


def test_a_key_tells_questions_apart():
    keys = {answer_key(task="a", doc=number, generation={"until": [end]}) for number in range(2) for end in "xy"}
    assert len(keys) == 4
    assert answer_key(b=1, a=2) == answer_key(a=2, b=1)


def test_every_answer_is_a_json_line_at_once(tmp_path):
    answers = AnswerFile(tmp_path, MODEL)
    answers.add(record("a", "ä"))
    assert json.loads((tmp_path / "rank-0.jsonl").read_text("utf-8").splitlines()[1])["answer"] == "ä"
