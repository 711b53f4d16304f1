"""The shares as a chart: each bar begins where the one before ends, and the last is the whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from laco_export.charts import BAD, GOOD, QUIET, SERIES_COLOURS, new_figure

from .losses import Loss
from .shares import PartShare

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANELS: tuple[tuple[str, Callable[[Loss], float], str], ...] = (
    ("answers changed, points", lambda loss: 100 * loss.answer, "{:.1f}"),
    ("log-probability of the reference's answer lost, nats a token", lambda loss: loss.logprob, "{:.3f}"),
    ("squared relative error of the features", lambda loss: loss.squared_error, "{:.2g}"),
)


def draw_waterfall(rows: Sequence[PartShare], title: str) -> Figure:
    """A panel for each of what is lost, over one column of parts.

    Args:
        rows: of :func:`~.shares.share_out`.
        title: above the chart.
    """
    figure = new_figure(1440, 150 + 34 * len(rows))
    panels = figure.subplots(1, len(_PANELS), sharey=True)
    for axes, (label, value_of, spelling) in zip(panels, _PANELS, strict=True):
        _draw(axes, rows, [value_of(row.share) for row in rows], spelling)
        axes.set_xlabel(label)
    panels[0].set_yticks(range(len(rows)), [row.part for row in rows])
    panels[0].invert_yaxis()
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    return figure


def _draw(axes: Axes, rows: Sequence[PartShare], values: Sequence[float], spelling: str) -> None:
    end = 0.0
    for place, (row, value) in enumerate(zip(rows, values, strict=True)):
        start = 0.0 if row.is_total else end
        end = start + value
        axes.barh(place, value, 0.7, left=start, color=_colour(row, value))
        axes.annotate(
            spelling.format(value),
            (max(start, end), place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
        if not row.is_total:
            axes.plot([end, end], [place, place + 1], color=QUIET, linewidth=1)
    axes.axvline(0, color=QUIET, linewidth=1)
    axes.use_sticky_edges = False  # which would leave no margin for the last number
    axes.margins(x=0.15)
    axes.spines[["top", "right"]].set_visible(False)


def _colour(row: PartShare, value: float) -> str:
    """Of the whole, of the rest, of what a part loses, of what it wins."""
    if row.is_total:
        return SERIES_COLOURS[0]
    if row.alone is None:
        return QUIET
    return BAD if value > 0 else GOOD
