"""The chart of a calibration's blocks."""

from matplotlib.colors import to_hex

from laco_calibration.blocks.choice import BlockTime
from laco_calibration.plot import draw_blocks
from laco_export.charts import BAD, GOOD


class Lost:
    """An error of so many points."""

    def __init__(self, points: float):
        self.points = points


def chart(times, merges_at=(1,)):
    errors = {"encoder.layers.0": Lost(0.5), "compressors.block_1": Lost(3.0), "projector": Lost(0.1)}
    return draw_blocks(errors, times, ("encoder.layers.0",), max_drop=1.0, merges_at=merges_at, title="t")


def test_bars_are_the_points_and_their_colour_the_choice():
    (panel,) = chart(None).axes
    assert [bar.get_height() for bar in panel.patches] == [0.5, 3.0, 0.1]
    assert [to_hex(bar.get_facecolor()) for bar in panel.patches] == [GOOD, BAD, BAD]
    assert [label.get_text() for label in panel.get_xticklabels()] == ["layers.0", "block_1", "projector"]


def test_measured_times_stand_below_in_pairs():
    times = {"encoder.layers.0": BlockTime(4.0, 1.0), "compressors.block_1": BlockTime(2.0, 3.0)}
    times["projector"] = BlockTime(1.0, 1.0)
    _, panel = chart(times).axes
    assert [bar.get_height() for bar in panel.patches] == [4.0, 2.0, 1.0, 1.0, 3.0, 1.0]


def test_lines_stand_at_the_budget_and_before_the_merge():
    (panel,) = chart(None).axes
    assert list(panel.lines[0].get_ydata()) == [1.0, 1.0] and list(panel.lines[1].get_xdata()) == [0.5, 0.5]
    (panel,) = chart(None, merges_at=()).axes
    assert len(panel.lines) == 1
