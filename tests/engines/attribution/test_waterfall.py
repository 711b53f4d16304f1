import pytest

from laco_engines.attribution.losses import Loss
from laco_engines.attribution.shares import PartLosses, share_out
from laco_engines.attribution.waterfall import draw_waterfall
from laco_export.charts import BAD, GOOD, QUIET, SERIES_COLOURS


@pytest.fixture(scope="module")
def figure():
    """Of a part that loses half of the answers, one that wins a tenth, and a rest."""
    whole = Loss(answer=0.5, logprob=0.25)
    alone = {"merge": Loss(answer=0.5), "projector": Loss(answer=-0.1)}
    back = {"merge": Loss(), "projector": Loss(answer=0.6, logprob=0.25)}
    return draw_waterfall(share_out(["merge", "projector"], PartLosses(Loss(), whole, alone, back)), "a title")


def test_each_bar_begins_where_the_one_before_ends_and_the_last_is_the_whole(figure):
    panel = figure.axes[0]
    spans = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in panel.patches]
    assert spans == [pytest.approx(span) for span in ((0, 50), (50, 40), (40, 50), (0, 50))]
    assert [label.get_text() for label in panel.get_yticklabels()] == [
        "merge", "projector", "several parts together", "all parts",
    ]  # fmt: skip
    assert [text.get_text() for text in panel.texts] == ["50.0", "-10.0", "10.0", "50.0"]


def test_colours_say_what_is_lost_won_left_over_and_the_whole(figure):
    from matplotlib.colors import to_hex

    colours = [to_hex(bar.get_facecolor()) for bar in figure.axes[0].patches]
    assert colours == [BAD, GOOD, QUIET, SERIES_COLOURS[0]]


def test_the_panels_are_of_answers_log_probability_and_features(figure):
    assert [panel.get_xlabel().split(",")[0].split(" of ")[0] for panel in figure.axes] == [
        "answers changed", "log-probability", "squared relative error",
    ]  # fmt: skip
    assert [bar.get_width() for bar in figure.axes[1].patches] == pytest.approx([0.125, 0, 0.125, 0.25])
