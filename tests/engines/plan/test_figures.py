import math

from laco_engines.plan.figures import BOUNDED, MEASURED, PREDICTED, RECORDED, Figure, total


def test_a_sum_says_of_what_it_is_made():
    measured, recorded = Figure.exact(10.0, MEASURED), Figure.exact(5.0, RECORDED)
    predicted = Figure(20.0, 15.0, 30.0, frozenset({PREDICTED}))
    assert total([measured, recorded]).is_measured
    mixed = total([measured, predicted])
    assert (mixed.value, mixed.low, mixed.high, mixed.source) == (30.0, 25.0, 40.0, "measured + predicted")
    assert not mixed.is_measured and mixed.is_known


def test_a_guess_is_no_value():
    bounded = Figure(3.0, 2.0, math.inf, frozenset({BOUNDED}))
    assert not bounded.is_known
    assert bounded.to_dict() == {"value": None, "low": 2.0, "high": None, "source": "bounded"}
    assert not total([bounded, Figure.exact(1.0, MEASURED)]).is_known


def test_scaled():
    scaled = Figure(2.0, 1.0, 4.0, frozenset({PREDICTED})).scaled(3)
    assert (scaled.value, scaled.low, scaled.high, scaled.source) == (6.0, 3.0, 12.0, "predicted")
