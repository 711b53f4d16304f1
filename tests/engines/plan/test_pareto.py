"""The picture holds what it should: measured filled, predicted hollow, limits, the choice."""

import numpy as np
import pytest

from laco_engines.plan.figures import PREDICTED, Figure
from laco_engines.plan.pareto import draw_plan

from .tables import model, planned


@pytest.fixture
def models():
    return [
        model("large", gflop=300, depth="1"),
        model("half", gflop=140, depth="1/2"),
        model("small", gflop=100, depth="1/4", precision="int8"),
    ]


def collections(figure):
    """Filled and hollow dots that stand at a place."""
    axes, _ = figure.axes
    dots = [dot for dot in axes.collections if len(dot.get_offsets())]
    return [dot for dot in dots if len(dot.get_facecolors())], [dot for dot in dots if not len(dot.get_facecolors())]


def test_measured_ones_are_filled_and_the_choice_is_ringed(models):
    plan = planned(models)
    filled, hollow = collections(draw_plan(plan))
    assert len(filled) == sum(each.time.is_known for each in plan.assessed) >= 2
    assert len(hollow) == 1, "the ring"
    assert np.allclose(hollow[0].get_offsets()[0], [plan.choice.time.value, 100 - plan.choice.drop.value])


def test_predicted_ones_are_hollow_with_their_interval(models):
    plan = planned(models)
    for each in plan.assessed:
        value = each.encode.value
        object.__setattr__(each, "time", Figure(value, value / 2, 2 * value, frozenset({PREDICTED})))
    filled, hollow = collections(draw_plan(plan))
    assert (len(filled), len(hollow)) == (0, len(plan.assessed) + 1)
    axes, _ = draw_plan(plan).axes
    intervals = [line.get_xdata() for line in axes.lines if len(line.get_xdata()) == 2 and line.get_linestyle() == "-"]
    assert any(np.allclose(interval, [50, 200]) for interval in intervals)


def test_limits_are_drawn(models):
    axes, beside = draw_plan(planned(models)).axes
    names = [text.get_text() for text in beside.texts]
    assert any("1/2 fp16, LLM int4, 140 ms" in name for name in names)
    assert [list(line.get_xdata()) for line in axes.lines if line.get_linestyle() == "--"] == [[150, 150]]
    assert axes.get_ylabel() == "answers kept: 100 less the points lost"


def test_a_limit_that_lies_far_off_is_told_and_not_drawn(models):
    axes, _ = draw_plan(planned(models, budget=100_000)).axes
    assert not [line for line in axes.lines if line.get_linestyle() == "--"]
    assert "--budget lies outside" in axes.get_title(loc="left")


def test_more_memory_is_a_larger_dot(models):
    plan = planned(models)
    for number, each in enumerate(plan.assessed, 1):
        object.__setattr__(each, "memory", Figure.exact(float(number << 30), PREDICTED))
    filled, _ = collections(draw_plan(plan))
    by_place = {tuple(dot.get_offsets()[0]): dot.get_sizes()[0] for dot in filled}
    areas = [by_place[each.time.value, 100 - each.drop.value] for each in plan.assessed if each.time.is_known]
    assert areas == sorted(areas) and areas[0] < areas[-1]
