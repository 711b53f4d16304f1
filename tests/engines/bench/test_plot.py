import numpy as np
import pytest

from laco_engines.bench.plot import Point, _number, _round_ticks, draw_by_depth


def test_the_line_by_flops_stands_apart_from_the_measured_one():
    """A series that takes as long at every depth is a level line; its line by FLOPs falls with them."""
    points = [Point(0.25, 100, 40), Point(0.5, 100, 60), Point(1, 100, 100)]
    picture = np.asarray(draw_by_depth({"one": points}, "title"))
    assert picture.shape[2] == 3
    blue = (picture == (31, 93, 200)).all(-1)[:, 70:600]  # without the legend
    rows = np.flatnonzero(blue.any(1))
    level = np.bincount(np.nonzero(blue)[0]).argmax()  # the row with the most of the colour
    falling = rows[rows > level + 20]
    assert falling.size > 100  # down to 40 % of the height
    assert falling.max() - level > 0.45 * (picture.shape[0] - 128)  # of an axis that ends at 120


def test_a_line_of_the_same_ratios_covers_the_measured_one():
    points = [Point(0.25, 40, 4), Point(1, 100, 10)]
    blue = (np.asarray(draw_by_depth({"one": points}, "title")) == (31, 93, 200)).all(-1)[:, 70:600]
    assert np.median(blue[:, 300:480].sum(0)) <= 4  # one line's width and no second line beside it


def test_ticks_are_round():
    assert _round_ticks(704) == [0, 200, 400, 600, 800]
    assert _round_ticks(6.6) == [0, 2, 4, 6, 8]
    assert _round_ticks(0.011) == pytest.approx([0, 0.002, 0.004, 0.006, 0.008, 0.01, 0.012])


def test_numbers_are_for_reading():
    assert [_number(value) for value in (1255.1, 99.96, 7.0, 0.0123)] == ["1255", "100", "7", "0.0123"]


def test_one_depth_and_several_series_are_drawn():
    series = {f"series {number}": [Point(0.5, 10 + number, 5)] for number in range(7)}
    assert draw_by_depth(series, "title").size == (900, 520)
