import pytest

from laco_engines.plan.predictions import spanned
from laco_engines.plan.spans import VISION_SPAN


def test_a_prediction_is_a_floor_times_the_span():
    figure = spanned(10.0, VISION_SPAN)
    assert (figure.low, figure.value, figure.high) == pytest.approx((20.5, 32.1, 45.1))
    assert figure.source == "predicted"
