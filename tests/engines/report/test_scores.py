"""What answers are worth, against figures that are counted by hand."""

import pytest

from laco_engines.report.scores import judge_answers, score_answers, worst_first
from laco_engines.score_intervals import paired_interval, share_interval
from laco_export.errors import UsageError


@pytest.fixture
def judged(make_asked, make_questions):
    """A reference that repeats all but one answer, and one that loses two, gains one and is refused one."""
    questions = make_questions("green", "blue", "red", "one", None, "two")
    reference = make_asked(
        "reference", ["green", "blue", "red", "ten", "a cat", "two"], ["green", "blue", "red", "ten", "a dog", "two"]
    )
    refused = UsageError("the prompt is too long")
    other = make_asked("other", ["green ", "black", "rod", "one", "a cow", refused])
    return judge_answers([reference, other], 0, questions)


def test_each_answer_is_judged(judged):
    reference, other = judged
    assert [answer.right for answer in reference] == [True, True, True, False, None, True]
    assert [answer.right for answer in other] == [True, False, False, True, None, None]
    assert [answer.text for answer in other][-1] is None and other[-1].refused == "the prompt is too long"
    assert other[-1].likeness is None and not other[-1].differs
    assert [answer.differs for answer in other] == [False, True, True, True, True, False]
    assert other[1].likeness.prefix == 2 and other[1].likeness.of == 4  # "bl" of "blue"


def test_the_reference_is_compared_with_its_own_second_answer(judged):
    reference, _ = judged
    assert [answer.differs for answer in reference] == [False] * 4 + [True, False]
    scores = score_answers(reference, None)
    assert scores.change is None
    assert (scores.same_text.count, scores.same_text.of) == (5, 6)
    assert (scores.same_first_token.count, scores.same_first_token.of) == (6, 6)


def test_shares_count_what_could_be_compared(judged):
    reference, other = judged
    scores = score_answers(other, reference)
    assert (scores.right.count, scores.right.of) == (2, 4)
    assert scores.right.interval == share_interval(2, 4)
    assert (scores.same_text.count, scores.same_text.of) == (1, 5)
    assert (scores.same_first_token.count, scores.same_first_token.of) == (4, 5)  # "one" for "ten"
    assert scores.prefix_share == pytest.approx((1 + 2 / 4 + 1 / 3 + 0 / 3 + 3 / 5) / 5)
    assert (scores.change.gained, scores.change.lost) == (1, 2)
    assert scores.change.interval == paired_interval(gained=1, lost=2, of=4)


def test_without_truths_only_agreement_is_scored(make_asked, make_questions):
    questions = make_questions(None, None)
    judged = judge_answers([make_asked("a", ["x", "y"], ["x", "y"]), make_asked("b", ["x", "z"])], 0, questions)
    scores = score_answers(judged[1], judged[0])
    assert scores.right is None and scores.change is None
    assert (scores.same_text.count, scores.same_text.of) == (1, 2)


def test_another_reference_may_be_chosen(make_asked, make_questions):
    questions = make_questions("x", "y")
    judged = judge_answers([make_asked("a", ["x", "q"]), make_asked("b", ["x", "y"], ["x", "y"])], 1, questions)
    assert score_answers(judged[0], judged[1]).change.lost == 1
    assert score_answers(judged[1], None).same_text.count == 2


def test_the_worst_come_first(judged):
    # Lost: 1 ("bl" kept) and 2 ("r" kept, less); then wrong by the reference alone: 3; then refused: 5; differs: 4.
    assert worst_first(judged, 0) == [2, 1, 3, 5, 4, 0]


def test_what_is_lost_comes_before_what_nobody_has_right(make_asked, make_questions):
    questions = make_questions("x", "y")
    judged = judge_answers([make_asked("a", ["p", "y"], ["p", "y"]), make_asked("b", ["q", "z"])], 0, questions)
    assert worst_first(judged, 0) == [1, 0]


def test_equal_ones_stay_in_order(make_asked, make_questions):
    judged = judge_answers([make_asked("a", ["x"] * 4, ["x"] * 4)], 0, make_questions(*["x"] * 4))
    assert worst_first(judged, 0) == [0, 1, 2, 3]
