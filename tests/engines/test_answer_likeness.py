import pytest

from laco_engines.answer_likeness import AnswerLikeness, answer_likeness


@pytest.mark.parametrize(
    ("reference", "other", "likeness"),
    [
        (([5, 6, 7], "a b"), ([5, 6, 7], "a b"), AnswerLikeness(True, True, 3, 3)),
        (([5, 6, 7], "a b"), ([5, 9, 7], "a c"), AnswerLikeness(False, True, 1, 3)),
        (([5, 6, 7], "a b"), ([9, 6, 7], "c b"), AnswerLikeness(False, False, 0, 3)),
        (([5, 6], "a"), ([5, 6, 7], "a b"), AnswerLikeness(False, True, 2, 2)),
        (([5, 6, 7], "a b"), ([5], "a"), AnswerLikeness(False, True, 1, 3)),
        (([5, 6], "a "), ([8, 6], " a"), AnswerLikeness(True, False, 0, 2)),
        (([], ""), ([], ""), AnswerLikeness(True, True, 0, 0)),
        (([], ""), ([4], "x"), AnswerLikeness(False, False, 0, 0)),
    ],
)
def test_what_two_answers_share(reference, other, likeness):
    assert answer_likeness(*reference, *other) == likeness


def test_the_share_is_of_the_references_tokens():
    assert answer_likeness([1, 2, 3, 4], "", [1, 2, 9], "").prefix_share == 0.5
    assert answer_likeness([], "", [], "").prefix_share == 1.0
    assert answer_likeness([], "", [1], "x").prefix_share == 0.0
