"""A conversation that is too long loses its oldest part, and no picture in half."""

import numpy as np
import pytest

from laco_engines.prompts.context import Omitted, TokenisedTurn, fit_context
from laco_engines.prompts.visuals import Visual
from laco_export.errors import UsageError
from laco_export.token_layouts import single_tile_layout

IMAGE = 9


def visual(tokens):
    return Visual(np.zeros((1, 3, 2, 2), np.float32), single_tile_layout(tokens))


def turn(role, words, visuals=(), frame=2):
    ids = np.asarray([1] * frame + list(words) + [2] * frame)
    return TokenisedTurn(role, ids, tuple(visuals), frame, frame)


SYSTEM, FIRST, ANSWER = turn("system", [3]), turn("user", [IMAGE] * 4, [visual(4)]), turn("assistant", [4, 4])
SECOND, ANSWER_2, LAST = turn("user", [5] * 3), turn("assistant", [4]), turn("user", [6] * 5)
ALL = [SYSTEM, FIRST, ANSWER, SECOND, ANSWER_2, LAST]
TOTAL = sum(map(len, ALL))


def fit(turns, most, on_overflow="truncate", reserved=0):
    return fit_context(turns, image_token_id=IMAGE, most=most, on_overflow=on_overflow, reserved=reserved)


@pytest.mark.parametrize("on_overflow", ["error", "truncate"])
def test_what_fits_stays(on_overflow):
    remaining, omitted = fit(ALL, TOTAL + 3, on_overflow, reserved=3)
    assert remaining == ALL
    assert not omitted


def test_one_token_too_many_is_an_error_unless_truncation_is_asked_for():
    with pytest.raises(UsageError, match="longer than the model's context") as caught:
        fit(ALL, TOTAL + 2, "error", reserved=3)
    assert f"{TOTAL + 3} tokens, 4 of them for 1 pictures" in caught.value.given
    remaining, omitted = fit(ALL, TOTAL + 2, reserved=3)
    assert remaining == [SYSTEM, SECOND, ANSWER_2, LAST]
    assert omitted == Omitted(turns=2, tokens=0, visuals=1)
    assert str(omitted) == "the 2 oldest turns with 1 picture"


def test_the_system_line_and_the_question_stay_to_the_last():
    remaining, omitted = fit(ALL, len(SYSTEM) + len(LAST))
    assert remaining == [SYSTEM, LAST]
    assert omitted == Omitted(turns=4, tokens=0, visuals=1)


def test_the_question_loses_its_beginning_last_of_all():
    remaining, omitted = fit(ALL, len(SYSTEM) + len(LAST) - 2)
    assert remaining[-1].input_ids.tolist() == [1, 1, 6, 6, 6, 2, 2]
    assert omitted == Omitted(turns=4, tokens=2, visuals=1)
    assert "the first 2 tokens of the question" in str(omitted)


MIXED = [7, *[IMAGE] * 3, *[IMAGE] * 2, 8, 8, 8]


@pytest.mark.parametrize(
    ("excess", "left", "visuals"),
    [
        (1, MIXED[1:], 2),  # up to the first picture
        (2, MIXED[4:], 1),  # into it: it goes whole
        (3, MIXED[4:], 1),
        (4, MIXED[4:], 1),
        (5, MIXED[6:], 0),  # the next begins where it ends
        (6, MIXED[6:], 0),
        (8, MIXED[8:], 0),
    ],
)
def test_no_picture_is_cut_in_half(excess, left, visuals):
    question = turn("user", MIXED, [visual(3), visual(2)])
    remaining, omitted = fit([SYSTEM, question], len(SYSTEM) + len(question) - excess)
    assert remaining[1].input_ids.tolist() == [1, 1, *left, 2, 2]
    assert [len(v) for v in remaining[1].visuals] == [3, 2][2 - visuals :]
    assert omitted == Omitted(0, len(MIXED) - len(left), 2 - visuals)


@pytest.mark.parametrize("words, visuals", [([6] * 3, []), ([6, *[IMAGE] * 4], [4])])
def test_where_nothing_of_the_question_would_remain_it_is_an_error(words, visuals):
    question = turn("user", words, [visual(n) for n in visuals])
    with pytest.raises(UsageError, match="longer than the model's context"):
        fit([SYSTEM, question], len(SYSTEM) + 4)


def test_an_unknown_way_is_refused():
    with pytest.raises(UsageError, match="--on-overflow"):
        fit(ALL, TOTAL, "shrug")
