import pytest

from laco_engines.report.asking import AskedSubject
from laco_engines.report.first_token import AnswerFloors, answer_times
from laco_engines.report.gaps import gaps_in_words
from laco_engines.report.measuring import SubjectMeasures
from laco_engines.report.scores import judge_answers
from laco_export.errors import UsageError


def measures_of(asked: AskedSubject, *missing: str) -> SubjectMeasures:
    return SubjectMeasures(answer_times(asked), AnswerFloors(), 1, None, None, None, None, list(missing))


@pytest.fixture
def said(make_asked):
    """``said(questions, subjects, missing, **more)``: the sentences as one text."""

    def say(questions, asked, missing=None, *, has_sensors=True, is_attributed=True, is_in_turn=True):
        judged = judge_answers(asked, 0, questions)
        measures = [measures_of(subject, *reasons) for subject, reasons in zip(asked, missing or [()] * len(asked))]
        return gaps_in_words(
            questions, asked, judged, measures,
            machine="2 cores, Some CPU", has_sensors=has_sensors,
            is_attributed=is_attributed, is_in_turn=is_in_turn,
        )  # fmt: skip

    return say


def test_truths_that_nobody_said(said, make_asked, make_questions):
    asked = [make_asked("a", ["x", "y"], ["x", "y"])]
    assert any("come without known answers" in line for line in said(make_questions(None, None), asked))
    assert any("to 1 of the 2 questions are right" in line for line in said(make_questions("x", None), asked))
    assert not any("right: " in line for line in said(make_questions("x", "y"), asked))


def test_questions_that_could_not_be_asked_are_named(said, make_asked, make_questions):
    refused = [UsageError("the prompt is too long")] * 4
    asked = [make_asked("a", [*refused, "x"], [*refused, "x"])]
    (line,) = [line for line in said(make_questions(*"vwxyz"), asked) if "could not be asked" in line]
    assert line.startswith("4 questions that a could not be asked: q0: the prompt is too long; q1:")
    assert "q3" not in line and line.endswith("and 1 more.")


def test_what_is_missing_of_all_is_said_once(said, make_asked, make_questions):
    asked = [make_asked("a", ["x"], ["x"]), make_asked("b", ["x"])]
    asked[1].passed_over = ["TensorRT is not installed"]
    lines = said(make_questions("x"), asked, [("no floors: onnx",), ("no floors: onnx", "peak memory: it was killed")])
    assert lines.count("No floors: onnx.") == 1
    assert "Peak memory: it was killed (b)." in lines
    assert "A runtime that was passed over: TensorRT is not installed (b)." in lines


def test_energy_attribution_and_the_machine(said, make_asked, make_questions):
    asked = [make_asked("a", ["x"], ["x"])]
    without = said(make_questions("x"), asked, has_sensors=False, is_attributed=False, is_in_turn=False)
    assert sum(line.startswith(("Energy", "What part of the export", "Times in turn")) for line in without) == 3
    everything = said(make_questions("x"), asked)
    assert not any(line.startswith(("Energy", "What part of the export", "Times in turn")) for line in everything)
    assert "Any other machine: times, memory and floors are of 2 cores, Some CPU." in everything
