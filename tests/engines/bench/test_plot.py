import io

import numpy as np
import pytest
from PIL import Image

from laco_engines.bench.plot import DepthPoint, draw_by_depth, spelled
from laco_export.charts import png_bytes


def lines_of(series: dict) -> dict:
    """Label → the line's points ``[n, 2]``."""
    (axes,) = draw_by_depth(series, "title").axes
    return {line.get_label(): line.get_xydata() for line in axes.lines}


def test_the_line_by_flops_stands_apart_from_the_measured_one():
    """A series that takes as long at every depth is a level line; its line by FLOPs falls with them."""
    lines = lines_of({"a": [DepthPoint(0.25, 100, 40), DepthPoint(1, 100, 100), DepthPoint(0.5, 100, 60)]})
    np.testing.assert_allclose(lines["a"], [(0.25, 100), (0.5, 100), (1, 100)])
    np.testing.assert_allclose(lines["a: by FLOPs alone"], [(0.25, 40), (0.5, 60), (1, 100)])


def test_a_line_of_the_same_ratios_covers_the_measured_one():
    lines = lines_of({"a": [DepthPoint(0.25, 40, 4), DepthPoint(1, 100, 10)]})
    np.testing.assert_allclose(lines["a"], lines["a: by FLOPs alone"])


def test_both_axes_begin_at_zero_and_every_depth_has_a_tick():
    (axes,) = draw_by_depth({"a": [DepthPoint(0.25, 40, 4), DepthPoint(1, 704, 10)]}, "title").axes
    assert axes.get_xlim()[0] == axes.get_ylim()[0] == 0 and axes.get_ylim()[1] > 704
    assert list(axes.get_xticks()) == [0.25, 1]


def test_every_point_says_its_milliseconds():
    (axes,) = draw_by_depth({"a": [DepthPoint(0.25, 40.26, 4), DepthPoint(1, 1255.1, 10)]}, "title").axes
    assert [text.get_text() for text in axes.texts] == ["40.3", "1255"]


@pytest.mark.parametrize("value, text", [(1255.1, "1255"), (99.96, "100"), (7.0, "7"), (0.0123, "0.0123")])
def test_numbers_are_for_reading(value, text):
    assert spelled(value) == text


def test_one_depth_and_several_series_are_drawn():
    series = {f"series {number}": [DepthPoint(0.5, 10 + number, 5)] for number in range(9)}
    png = Image.open(io.BytesIO(png_bytes(draw_by_depth(series, "title"))))
    assert png.format == "PNG" and png.size == (960, 560)
