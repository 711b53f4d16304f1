import math

import pytest

from laco_engines.plan.figures import BOUNDED, MEASURED, PREDICTED, Figure
from laco_engines.plan.limits import Limits, Quantity, TextFigures, misses
from laco_export.errors import UsageError

TEXT = TextFigures(*(Figure.exact(value, MEASURED) for value in (3.0, 40.0, 10.0)))
ENCODE = Figure.exact(100.0, MEASURED)


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("encode", 100), ("first-token", 143), ("answer:1", 143), ("answer:5", 183), ("answer", 453)],
)
def test_a_quantity_is_the_sum_of_its_parts(text, milliseconds):
    quantity = Quantity.parse(text)
    assert quantity.of(ENCODE, TEXT if quantity.needs_text else None).value == milliseconds


@pytest.mark.parametrize("text", ["", "tokens", "answer:", "answer:-1", "answer:2.5", "encode:3", "first-token:1"])
def test_what_is_no_quantity_is_refused(text):
    with pytest.raises(UsageError, match="--of"):
        Quantity.parse(text)


def test_limits_are_held_to_the_value_of_what_is_known_and_to_the_least_of_what_is_not():
    predicted = Figure(120.0, 80.0, 200.0, frozenset({PREDICTED}))
    assert [miss.limit for miss in misses(Limits(100), predicted, None, None)] == ["--budget"]
    assert misses(Limits(150), predicted, None, None) == []
    bounded = Figure(500.0, 90.0, math.inf, frozenset({BOUNDED}))
    assert misses(Limits(100), bounded, None, None) == []
    (miss,) = misses(Limits(80), bounded, None, None)
    assert (miss.least, miss.to_dict()["over_by"]) == (90.0, 10.0)


def test_the_limit_that_is_missed_most_comes_first():
    limits = Limits(time_ms=100, memory_bytes=1000, drop=1.0)
    missed = misses(limits, Figure.exact(110.0, MEASURED), Figure.exact(3000, MEASURED), Figure.exact(1.5, MEASURED))
    assert [miss.limit for miss in missed] == ["--memory", "--max-drop", "--budget"]


def test_no_points_at_all_may_be_lost():
    (miss,) = misses(Limits(drop=0.0), ENCODE, None, Figure.exact(0.3, MEASURED))
    assert miss.times == math.inf
