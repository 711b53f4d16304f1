"""Time against answers kept, memory as size: measured filled, predicted hollow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from laco_export.charts import QUIET, SERIES_COLOURS, new_figure

from .search import Assessed
from .verdict import DeploymentPlan, by_model, in_gibibytes, in_milliseconds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LARGEST, _SMALLEST = 900.0, 150.0  # square points of a dot: the most memory, and what still holds a number
_LISTED = 30  # models that the list beside the chart has room for


def draw_plan(plan: DeploymentPlan) -> Figure:
    """Each model by the best way to run it, the limits, and the front that no other is better than in both.

    Where nothing is known of answers, memory stands in their place. Models whose time is only bounded are left out, and
    counted under the chart.
    """
    figure = new_figure(1100, 620)
    axes, beside = figure.subplots(1, 2, width_ratios=(3.2, 1))
    models = by_model(plan.assessed)
    shown = [each for each in models if each.time.is_known and (each.drop is None or each.drop.is_known)]
    heights = {each: _height(each) for each in shown}
    colours = _colours(models)
    largest = max((each.memory.value for each in shown), default=1.0)
    shown.sort(key=lambda each: each.time.value)
    for number, each in enumerate(shown, 1):
        _draw(axes, each, number, heights[each], colours, largest, chosen=each is plan.choice)
    _list(beside, shown, colours, plan.choice)
    _draw_front(axes, [(each.time.value, heights[each]) for each in shown], larger=plan.quality is not None)
    far = _draw_limits(axes, plan)
    _label(axes, plan, colours, far, left_out=len(models) - len(shown))
    return figure


def _height(each: Assessed) -> float:
    return each.memory.value / (1 << 30) if each.drop is None else 100 - each.drop.value


def _colours(models: Sequence[Assessed]) -> dict[str, str]:
    precisions = sorted({each.candidate.model.precision for each in models})
    return {name: SERIES_COLOURS[index % len(SERIES_COLOURS)] for index, name in enumerate(precisions)}


def _draw(axes, each: Assessed, number: int, height: float, colours: dict, largest: float, *, chosen: bool) -> None:
    model = each.candidate.model
    colour, filled = colours[model.precision], each.time.is_measured
    area = max(_SMALLEST, _LARGEST * each.memory.value / largest)
    face = colour if filled else "none"
    alpha = 0.75 if filled else 1.0
    axes.scatter([each.time.value], [height], s=area, facecolors=face, edgecolors=colour, linewidths=2, alpha=alpha)
    if each.time.low < each.time.high:
        axes.plot([each.time.low, each.time.high], [height, height], color=colour, linewidth=1)
    if each.drop is not None and each.drop.low < each.drop.high:
        ends = [100 - each.drop.high, 100 - each.drop.low]
        axes.plot([each.time.value] * 2, ends, color=colour, linewidth=1)
    if chosen:
        axes.scatter([each.time.value], [height], s=area + 260, facecolors="none", edgecolors="black", linewidths=2)
    place, ink = (each.time.value, height), "white" if filled else colour
    axes.annotate(str(number), place, ha="center", va="center", fontsize=8, fontweight="bold", color=ink)


def _list(axes, shown: Sequence[Assessed], colours: dict[str, str], choice: Assessed | None) -> None:
    """Which number is which, the fastest first: names beside the dots would lie upon each other."""
    axes.axis("off")
    for line, each in enumerate(shown[:_LISTED]):
        style = {"color": colours[each.candidate.model.precision], "fontsize": 8, "va": "top"}
        weight = "bold" if each is choice else "normal"
        axes.text(0, 1 - line / _LISTED, f"{line + 1:2}  {_title(each)}", fontweight=weight, **style)
    if len(shown) > _LISTED:
        axes.text(0, 0, f"and {len(shown) - _LISTED} more", fontsize=8, va="top")


def _title(each: Assessed) -> str:
    model = each.candidate.model
    language_model = f", LLM {model.language_model}" if model.language_model else ""
    return f"{model.depth} {model.precision}{language_model}, {in_milliseconds(each.time.value)}"


def _draw_front(axes, places: list[tuple[float, float]], *, larger: bool) -> None:
    """The steps through those that no other is better than in both; ``larger``: more height is better."""
    best, front = -math.inf, []
    for time, height in sorted(places, key=lambda place: (place[0], -place[1] if larger else place[1])):
        if (height if larger else -height) > best:
            best = height if larger else -height
            front.append((time, height))
    if len(front) > 1:
        times, heights = zip(*front)
        axes.step(times, heights, where="post", color=QUIET, linewidth=1.5, zorder=0)


def _draw_limits(axes, plan: DeploymentPlan) -> list[str]:
    """Dashed, where they do not lie so far off that the dots would be crowded into a corner; returns those that do."""
    limits, far = plan.limits, []
    lines = [("--budget", limits.time_ms, limits.time_ms, axes.axvline, axes.get_xlim())]
    if plan.quality is not None and limits.drop is not None:
        lines.append(("--max-drop", limits.drop, 100 - limits.drop, axes.axhline, axes.get_ylim()))
    if plan.quality is None and limits.memory_bytes is not None:
        lines.append(("--memory", limits.memory_bytes, limits.memory_bytes / (1 << 30), axes.axhline, axes.get_ylim()))
    for name, limit, place, draw, (low, high) in lines:
        if limit is None:
            continue
        if low - (high - low) <= place <= high + (high - low):
            draw(place, color="black", linestyle="dashed", linewidth=1)
        else:
            far.append(f"{name} lies outside")
    return far


def _label(axes, plan: DeploymentPlan, colours: dict[str, str], far: list[str], *, left_out: int) -> None:
    axes.set_xlabel(f"milliseconds of {plan.quantity}: filled is measured, hollow predicted")
    axes.set_ylabel("memory, GiB" if plan.quality is None else "answers kept: 100 less the points lost")
    axes.margins(0.12, 0.15)
    axes.autoscale_view()
    axes.set_xlim(left=0)
    axes.grid(color="#eeeeee")
    axes.set_axisbelow(True)
    for name, colour in colours.items():
        axes.scatter([], [], s=80, color=colour, label=f"vision tower {name}")
    axes.legend(loc="lower right", fontsize=9)
    largest = max((each.memory.value for each in plan.assessed), default=0.0)
    notes = [f"area: memory, the largest {in_gibibytes(largest)}", *far]
    if left_out:
        notes.append(f"{left_out} not shown: not measured, since they cannot be the choice")
    if plan.quality is None:
        notes.append("nothing is known of answers")
    axes.set_title(f"{plan.device}\n{'; '.join(notes)}", loc="left", fontsize=10)
