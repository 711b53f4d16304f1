import json

import numpy as np
import pytest

from laco_export.agreement import Agreement, ShapeMismatchError, Tolerance, agreement, worst, worst_of

HIDDEN = np.random.default_rng(0).standard_normal((1, 6, 8)).astype(np.float32)
STRICT, HALF = Tolerance.of_relative_error(1e-3), Tolerance(0.999, 1e-2, 0.1)


def test_equal_tensors_agree():
    compared = agreement("t", HIDDEN, HIDDEN)
    assert (compared.cosine, compared.norm_ratio, compared.max_abs, compared.relative_error) == (1, 1, 0, 0)
    assert compared.within(STRICT)


@pytest.mark.parametrize("error", [1e-6, 1e-4, 1e-2, 1.0, 30.0])
def test_the_numbers_are_the_textbook_ones_in_float64(error):
    generator = np.random.default_rng(1)
    expected = generator.standard_normal((2, 50, 32)).astype(np.float32)
    actual = (expected + error * generator.standard_normal(expected.shape)).astype(np.float32)
    x, y = expected.astype(np.float64).ravel(), actual.astype(np.float64).ravel()
    compared = agreement("t", expected, actual)
    assert 1 - compared.cosine == pytest.approx(1 - x @ y / np.sqrt((x @ x) * (y @ y)), rel=1e-2, abs=1e-15)
    assert compared.norm_ratio == pytest.approx(np.linalg.norm(y) / np.linalg.norm(x), rel=1e-6)
    assert compared.relative_error == pytest.approx(np.linalg.norm(y - x) / np.linalg.norm(x), rel=1e-2)
    assert compared.max_abs == pytest.approx(np.abs(y - x).max(), rel=1e-5)
    tokens = [a @ b / np.sqrt((a @ a) * (b @ b)) for a, b in zip(x.reshape(-1, 32), y.reshape(-1, 32))]
    assert compared.worst_token_cosine == pytest.approx(min(tokens), abs=1e-6)


def test_a_lost_scale_has_cosine_one_and_fails_by_its_norm():
    compared = agreement("t", HIDDEN, np.float32(1.02) * HIDDEN)
    assert compared.cosine == pytest.approx(1)
    assert compared.norm_ratio == pytest.approx(1.02)
    assert not compared.within(HALF)


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_a_value_that_is_no_number_fails_and_can_be_written(value):
    broken = HIDDEN.copy()
    broken[0, 0, 0] = value
    compared = agreement("t", HIDDEN, broken)
    assert not compared.within(HALF)
    assert json.loads(json.dumps(compared.to_dict(), allow_nan=False))["cosine"] is None
    assert np.isnan(worst_of([agreement("t", HIDDEN, HIDDEN), compared]).cosine)
    assert np.isnan(compared.relative_error)


def test_zeros_agree_with_zeros_alone():
    assert agreement("t", 0 * HIDDEN, 0 * HIDDEN).within(STRICT)
    assert not agreement("t", 0 * HIDDEN, HIDDEN).within(HALF)
    assert not agreement("t", HIDDEN, 0 * HIDDEN).within(HALF)


def test_one_wrong_token_beside_others_fails_by_its_largest_difference():
    expected = np.random.default_rng(2).standard_normal((1, 4000, 8)).astype(np.float32)
    actual = expected.copy()
    actual[0, 7] *= -1
    compared = agreement("t", expected, actual)
    assert compared.cosine >= HALF.cosine
    assert not compared.within(HALF)
    assert compared.worst_token_cosine == pytest.approx(-1)


def test_a_token_that_a_large_one_hides_shows_in_the_worst_token():
    expected, actual = HIDDEN.copy(), HIDDEN.copy()
    expected[0, 0] *= 1e4
    actual[0, 0] *= 1e4
    actual[0, 1] *= -1
    compared = agreement("t", expected, actual)
    assert compared.within(HALF)  # why this field is reported
    assert compared.worst_token_cosine == pytest.approx(-1)


def test_the_worst_of_several_pictures_is_kept_number_by_number():
    first, second = Agreement("t", 0.9, 1.1, 1.0, 100.0, 0.9), Agreement("t", 0.99, 0.8, 0.5, 1.0, 0.5)
    assert worst_of([first, second]) == Agreement("t", 0.9, 0.8, 0.5, 1.0, 0.5)
    assert worst([second, first]) is first


def test_a_tolerance_of_a_relative_error_is_just_met_by_it():
    generator = np.random.default_rng(3)
    expected = generator.standard_normal((1, 300, 64)).astype(np.float32)
    noise = generator.standard_normal(expected.shape).astype(np.float32)
    assert agreement("t", expected, expected + np.float32(0.09) * noise).within(Tolerance.of_relative_error(0.1))
    assert not agreement("t", expected, expected + np.float32(0.11) * noise).within(Tolerance.of_relative_error(0.1))
    assert not agreement("t", expected, np.float32(1.11) * expected).within(Tolerance.of_relative_error(0.1))


def test_another_shape_is_an_error():
    with pytest.raises(ShapeMismatchError, match="another shape"):
        agreement("t", HIDDEN, HIDDEN[:, :3])
