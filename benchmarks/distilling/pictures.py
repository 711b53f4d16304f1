"""Accuracy over compute, as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from laco_export.charts import SERIES_COLOURS, new_figure, save_chart

from .arms import DEPTHS, Arm
from .models import TEACHERS
from .verdict import Results

_KINDS = ("distilled", "labelled", "ordinary, short", "ordinary")


def draw_healing(results: Results, path: Path) -> None:
    """For letters a panel for each teacher and depth: share of symbols read over operations, a line a seed; the merged
    model is where healing starts, the teacher a dashed line."""
    letters = results.get("letters", {})
    figure = new_figure(1200, 640)
    axes = figure.subplots(len(TEACHERS), len(DEPTHS), sharex=True, sharey=True)
    for row, teacher in zip(axes, TEACHERS, strict=True):
        for axis, at in zip(row, DEPTHS, strict=True):
            axis.set_title(f"{teacher}, merged at {at}", fontsize=10)
            for seed in letters.values():
                _draw_seed(axis, seed, teacher, at)
    axes[-1][0].set_xlabel("operations over those that trained the teacher")
    axes[0][0].set_ylabel("share of letters read")
    axes[0][0].set_xscale("symlog", linthresh=0.01)
    handles, labels = axes[0][0].get_legend_handles_labels()
    unique = dict(zip(labels, handles))
    figure.legend(unique.values(), unique.keys(), loc="outside lower center", ncols=5, fontsize=9)
    save_chart(figure, path)


def _draw_seed(axis, seed: Mapping[str, dict], teacher: str, at: str) -> None:
    whole = seed[teacher]["operations"]
    axis.axhline(seed[teacher]["accuracy"], color="black", linestyle="--", linewidth=0.8, label="the teacher")
    for kind, colour in zip(_KINDS, SERIES_COLOURS):
        arm = Arm(kind, at, "" if kind.startswith("ordinary") else teacher)
        if arm.name not in seed:
            continue
        points = [(point["operations"] / whole, point["accuracy"]) for point in seed[arm.name]["curve"]]
        if arm.teacher and (merged := seed.get(Arm("merged", at, teacher).name)):
            points.insert(0, (0.0, merged["accuracy"]))
        axis.plot(*zip(*points), color=colour, linewidth=1.2, label=kind)
