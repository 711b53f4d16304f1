import numpy as np
import pytest

from laco_engines.attribution.losses import Loss, answer_loss, logprobs_of, mean_loss, squared_error_of

LOGITS = np.log(np.array([[0.5, 0.25, 0.125, 0.125], [0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1]], np.float32))
ANSWER = np.array([0, 3, 0])
OF_REFERENCE = np.log([0.5, 0.4, 0.7])


def test_log_probabilities():
    assert logprobs_of(LOGITS + 100, ANSWER) == pytest.approx(OF_REFERENCE, abs=1e-5)


def test_a_token_without_a_logit_counts_as_a_guess():
    logits = LOGITS.copy()
    logits[0, 0], logits[1, 2], logits[2] = -np.inf, np.nan, -np.inf
    assert logprobs_of(logits, ANSWER) == pytest.approx([-np.log(4)] * 3)
    others = LOGITS.copy()
    others[:, 1] = -np.inf
    assert logprobs_of(others, ANSWER)[0] == pytest.approx(np.log(0.5 / 0.75)), "probability goes to those that remain"


def test_an_answer_that_is_the_same_loses_nothing():
    assert answer_loss(LOGITS, ANSWER, OF_REFERENCE, 0.25) == pytest.approx((0, 0, 0, 0, 0.25), abs=1e-6)


@pytest.mark.parametrize(("step", "first"), [(0, 1.0), (1, 0.0)])
def test_one_other_token_changes_the_answer(step, first):
    logits = LOGITS.copy()
    logits[step, 2] = 5
    loss = answer_loss(logits, ANSWER, OF_REFERENCE, 0.0)
    assert (loss.answer, loss.first_token, loss.tokens) == (1.0, first, pytest.approx(1 / 3))
    assert loss.logprob > 1


def test_logits_that_are_none_lose_the_answer():
    loss = answer_loss(np.full((3, 4), np.nan), ANSWER, OF_REFERENCE, 1.0)
    assert loss == pytest.approx((1, 1, 1, OF_REFERENCE.mean() + np.log(4), 1))


def test_errors_of_features():
    expected = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    assert squared_error_of(expected, 1.1 * expected) == pytest.approx(0.01, rel=1e-3)
    assert squared_error_of(expected, expected) == 0
    assert squared_error_of(expected, np.where(np.arange(8) == 3, np.inf, expected)) == 1


def test_means_and_differences():
    mean = mean_loss([Loss(answer=1, squared_error=0.09), Loss(squared_error=0.07)])
    assert mean == pytest.approx((0.5, 0, 0, 0, 0.08))
    assert mean.feature_error == pytest.approx(0.08**0.5)
    assert mean.minus(Loss(answer=1)).answer == -0.5
    assert Loss(squared_error=-1e-9).feature_error == 0
