"""The losses of all parts of a run as one chart, and below each what its pictures were worth, or what a merge cost."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from laco_export.charts import QUIET, SERIES_COLOURS, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SMOOTHED_POINTS = 80


def draw_losses(
    curves: Mapping[str, Sequence[float]],
    looks: Mapping[str, Sequence[Mapping]] | None = None,
    prices: Mapping[str, Sequence[Mapping]] | None = None,
) -> Figure:
    """One column per part: each step's loss, and over it the means of equal spans; where its pictures were looked at,
    their worth with two standard errors, and the two figures that explain it; where it distilled, the price of each
    depth.

    Args:
        curves: part → the loss of each of its steps, in order.
        looks: part → what was measured of its pictures (``looks`` of ``looks.json``).
        prices: part → what each depth cost in features, ``{"step", depth: {"relative_error", "cosine"}}``.
    """
    looks, prices = looks or {}, prices or {}
    columns = max(1, len(curves))
    rows = 3 if looks or prices else 1
    figure = new_figure(300 * columns, 260 + 170 * (rows - 1))
    heights = [260, *[170] * (rows - 1)]
    panels = figure.subplots(rows, columns, squeeze=False, height_ratios=heights)
    for column, (part, losses) in enumerate(curves.items()):
        _draw_part(panels[0][column], part, losses)
        measured, draws = looks.get(part), (_draw_worth, _draw_embeddings)
        if part in prices:
            measured, draws = prices[part], (_draw_errors, _draw_cosines)
        for panel, draw in zip(panels[1:, column], draws):  # one row: none of them
            if measured:
                draw(panel, measured)
                panel.set_xlim(panels[0][column].get_xlim())
            else:
                panel.set_axis_off()
    for panel in panels.flat:
        panel.tick_params(labelsize=8)
    return figure


def _draw_part(panel, part: str, losses: Sequence[float]) -> None:
    steps, means = _means(losses)
    panel.plot(range(1, len(losses) + 1), losses, color=QUIET, linewidth=0.6)
    panel.plot(steps, means, color=SERIES_COLOURS[0], linewidth=2)
    panel.set_ylim(0, 1.05 * max(*means, 1e-9))
    panel.set_title(f"{part}   last {losses[-1]:.3f}", loc="left", fontsize=10)
    panel.set_xlabel("step", fontsize=8)


def _draw_worth(panel, looks: Sequence[Mapping]) -> None:
    """A line for each block that the merge stood after."""
    from .look import looks_by_block

    for colour, (block, own) in zip(itertools.cycle(SERIES_COLOURS[2:]), looks_by_block(looks).items()):
        steps, worth = [look["step"] for look in own], [look["worth"] for look in own]
        bars = [2 * look["error"] for look in own]
        label = f"block {block}   last {worth[-1]:.2f}"
        panel.errorbar(steps, worth, bars, color=colour, elinewidth=0.8, marker="o", ms=3, label=label)
    panel.axhline(0, color=QUIET, linewidth=0.8)
    panel.set_title("a picture's worth, nats a token, by the merge's block", loc="left", fontsize=8)
    panel.legend(fontsize=7, frameon=False)


def _draw_embeddings(panel, looks: Sequence[Mapping]) -> None:
    steps = [look["step"] for look in looks]
    for colour, name, label in (
        (SERIES_COLOURS[1], "rms_over_text", "RMS over the text's"),
        (SERIES_COLOURS[0], "between_tiles", "variance between tiles"),
    ):
        values = [look[name] for look in looks]
        panel.plot(steps, values, color=colour, marker="o", ms=3, label=f"{label}   last {values[-1]:.2g}")
    panel.set_yscale("log")
    panel.set_title("visual embeddings", loc="left", fontsize=8)
    panel.legend(fontsize=7, frameon=False)


def _draw_errors(panel, prices: Sequence[Mapping]) -> None:
    _draw_depths(panel, prices, "relative_error", "relative error of features held out, by depth")
    panel.set_ylim(bottom=0)


def _draw_cosines(panel, prices: Sequence[Mapping]) -> None:
    _draw_depths(panel, prices, "cosine", "their cosine")


def _draw_depths(panel, prices: Sequence[Mapping], name: str, title: str) -> None:
    """A line for each depth."""
    steps = [price["step"] for price in prices]
    depths = [depth for depth in prices[0] if depth != "step"]
    for colour, depth in zip(itertools.cycle(SERIES_COLOURS[2:]), depths):
        values = [price[depth][name] for price in prices]
        panel.plot(steps, values, color=colour, marker="o", ms=3, label=f"{depth}   last {values[-1]:.3f}")
    panel.set_title(title, loc="left", fontsize=8)
    panel.legend(fontsize=7, frameon=False)


def _means(losses: Sequence[float]) -> tuple[list[float], list[float]]:
    """Middle step and mean loss of equal spans, so that a long curve stays readable."""
    span = max(1, len(losses) // _SMOOTHED_POINTS)
    spans = [losses[start : start + span] for start in range(0, len(losses), span)]
    middles = [1 + span * index + (len(part) - 1) / 2 for index, part in enumerate(spans)]
    return middles, [sum(part) / len(part) for part in spans]
