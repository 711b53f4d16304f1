"""Logits and best tokens beside PyTorch's: what is allowed, what is excused, what is told."""

import numpy as np
import pytest

from laco_engines.comparison.logits_check import check_logits, relative_errors
from laco_export.golden_answers import GoldenAnswer, GoldenQuestion, sampled_logits

VOCABULARY, STEPS = 500, 4


@pytest.fixture
def whole_logits():
    return np.random.default_rng(0).normal(3.0, 2.0, (STEPS, VOCABULARY)).astype(np.float32)


@pytest.fixture
def answer(whole_logits):
    ids, logits = sampled_logits(whole_logits)
    return GoldenAnswer(GoldenQuestion("?", ()), np.arange(5), whole_logits.argmax(1), ids, logits)


def checked(answer, actual, allowed=0.05):
    return check_logits(answer, np.take_along_axis(actual, answer.logit_ids, 1), actual.argmax(1), allowed)


def test_the_same_logits_pass(answer, whole_logits):
    check = checked(answer, whole_logits)
    assert check.passed
    assert (check.error, check.tokens, check.same, check.undecided) == (0.0, STEPS, STEPS, 0)
    assert check.as_part("answer").line() == "  ok   answer: 4 of 4 tokens as PyTorch's; logits off by 0.00% (≤ 5.00%)"


def test_an_offset_changes_no_probability(answer, whole_logits):
    check = checked(answer, whole_logits + 100)
    assert check.passed
    assert check.error < 1e-4


def test_the_error_is_relative_to_the_logits_deviation(answer, whole_logits):
    noise = np.random.default_rng(1).normal(0, 0.2, whole_logits.shape)
    assert checked(answer, whole_logits + noise, 1.0).error == pytest.approx(
        0.1, rel=0.2
    )  # 0.2 of 2.0, the worst of four samples


def test_zeros_and_another_scale_are_out_of_tolerance(answer, whole_logits):
    assert not checked(answer, 0 * whole_logits).passed
    assert checked(answer, 0 * whole_logits).error == pytest.approx(1)
    assert not checked(answer, 1.1 * whole_logits).passed


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_out_of_tolerance(answer, whole_logits, value):
    actual = whole_logits.copy()
    actual[2, answer.logit_ids[2, 5]] = value  # a token among the best alone
    check = checked(answer, actual)
    assert not check.passed
    assert check.as_part("answer").numbers["error"] is None  # JSON has no NaN


def with_lead(whole_logits, deviations):
    """The best token of step 1 leads by so many deviations; and the same with the second in its place."""
    expected = whole_logits.copy()
    first, second = np.argsort(-expected[1])[:2]
    deviation = sampled_logits(expected)[1][1, 16:].std()
    expected[1, first] = expected[1, second] + deviations * deviation
    actual = expected.copy()
    actual[1, [first, second]] = actual[1, [second, first]]
    return expected, actual


@pytest.mark.parametrize(("lead", "passed"), [(0.09, True), (0.11, False)])
def test_another_token_is_excused_where_pytorch_is_undecided(whole_logits, lead, passed):
    expected, actual = with_lead(whole_logits, lead)
    ids, logits = sampled_logits(expected)
    answer = GoldenAnswer(GoldenQuestion("?", ()), np.arange(5), expected.argmax(1), ids, logits)
    check = checked(answer, actual)  # 0.05 deviations of error: 0.1 of a lead may be lost
    assert check.passed is passed
    assert (check.same, check.undecided) == (STEPS - 1, int(passed))
    words = check.as_part("answer").detail
    assert ("1 where it is undecided" in words) is passed
    assert (f"token 2 is {actual[1].argmax()} for {expected[1].argmax()}, which leads by 0.11" in words) is not passed


def test_a_part_of_the_steps_is_named_by_its_place_in_the_answer(answer, whole_logits):
    actual = -whole_logits[2:]
    sampled = np.take_along_axis(actual, answer.logit_ids[2:], 1)
    check = check_logits(answer, sampled, actual.argmax(1), 0.0, steps=slice(2, None))
    assert check.first_wrong[0] == 2


def test_no_steps_do_not_pass(answer):
    nothing = np.empty((0, answer.logits.shape[1]), np.float32)
    with pytest.raises(ValueError):
        check_logits(answer, nothing, [], 0.05, steps=slice(0, 0))


def test_logits_that_are_all_the_same_are_compared_too(answer):
    same = np.ones_like(answer.logits)
    assert relative_errors(same, same).tolist() == [0.0] * STEPS
    assert not np.isfinite(relative_errors(same, answer.logits)).any()
