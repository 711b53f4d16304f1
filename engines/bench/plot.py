"""Encode time by depth as a chart, with the line that the operations alone would give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from laco_export.charts import SERIES_COLOURS, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class DepthPoint:
    """One bundle at one batch size.

    Attributes:
        depth: share of the blocks before the merge.
        ms: milliseconds a picture.
        flops: operations a picture.
    """

    depth: float
    ms: float
    flops: float


def draw_by_depth(series: dict[str, Sequence[DepthPoint]], title: str) -> Figure:
    """One line a series over depth, and dashed in its colour what its deepest point would shrink to by FLOPs.

    Args:
        series: name → points; each series has its own dashed line, from its deepest point.
        title: device and settings, above the chart.
    """
    figure = new_figure(960, 560)
    axes = figure.add_subplot()
    for index, (name, points) in enumerate(series.items()):
        colour = SERIES_COLOURS[index % len(SERIES_COLOURS)]
        points = sorted(points, key=lambda point: point.depth)
        depths, deepest = [point.depth for point in points], points[-1]
        by_flops = [deepest.ms * point.flops / deepest.flops for point in points]
        axes.plot(depths, [point.ms for point in points], color=colour, marker="o", linewidth=2.5, label=name)
        axes.plot(depths, by_flops, color=colour, linestyle="dashed", label=f"{name}: by FLOPs alone")
        for point in points:
            # Above the line and to its left, or below it and to its right: never on it, since lines only rise.
            above = index % 2 == 0
            axes.annotate(
                spelled(point.ms),
                (point.depth, point.ms),
                xytext=(-6, 7) if above else (6, -7),
                textcoords="offset points",
                ha="right" if above else "left",
                va="bottom" if above else "top",
                color=colour,
            )
    slowest = max(point.ms for points in series.values() for point in points)
    axes.set_xlim(0, 1.1)
    axes.set_ylim(0, 1.1 * slowest)
    axes.set_xlabel("depth: share of the blocks before the first merge")
    axes.set_ylabel("milliseconds a picture")
    axes.set_xticks(sorted({point.depth for points in series.values() for point in points}))
    axes.xaxis.set_major_formatter("{x:.2f}")
    axes.grid(axis="y", color="#e6e6e6")
    axes.set_title(title, loc="left", fontsize=11)
    axes.legend(loc="upper left", fontsize=9)
    return figure


def spelled(value: float) -> str:
    """Three digits, and never as a power of ten: ``1255``, ``84.6``, ``0.012``."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
