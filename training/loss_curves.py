"""The losses of all parts of a run as one chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from laco_export.charts import QUIET, SERIES_COLOURS, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SMOOTHED_POINTS = 80


def draw_losses(curves: Mapping[str, Sequence[float]]) -> Figure:
    """One panel per part, side by side: each step's loss, and over it the means of equal spans.

    Args:
        curves: part → the loss of each of its steps, in order.
    """
    figure = new_figure(300 * max(1, len(curves)), 260)
    panels = figure.subplots(1, max(1, len(curves)), squeeze=False)[0]
    for panel, (part, losses) in zip(panels, curves.items()):
        steps, means = _means(losses)
        panel.plot(range(1, len(losses) + 1), losses, color=QUIET, linewidth=0.6)
        panel.plot(steps, means, color=SERIES_COLOURS[0], linewidth=2)
        panel.set_ylim(0, 1.05 * max(*means, 1e-9))
        panel.set_title(f"{part}   last {losses[-1]:.3f}", loc="left", fontsize=10)
        panel.set_xlabel("step", fontsize=8)
        panel.tick_params(labelsize=8)
    return figure


def _means(losses: Sequence[float]) -> tuple[list[float], list[float]]:
    """Middle step and mean loss of equal spans, so that a long curve stays readable."""
    span = max(1, len(losses) // _SMOOTHED_POINTS)
    spans = [losses[start : start + span] for start in range(0, len(losses), span)]
    middles = [1 + span * index + (len(part) - 1) / 2 for index, part in enumerate(spans)]
    return middles, [sum(part) / len(part) for part in spans]
