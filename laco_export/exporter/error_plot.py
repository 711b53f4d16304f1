"""The error of each boundary as a chart: one line per run, on a logarithmic scale."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..agreement import Agreement
from ..charts import BAD, SERIES_COLOURS, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LOWEST, _HIGHEST = 1e-9, 10.0
"""The axis: FP32's order of sums at the bottom; inf and NaN stand at the top."""


def draw_errors(runs: Mapping[str, Sequence[Agreement]], *, title: str) -> Figure:
    """Relative error by boundary.

    ::

        10⁰  ┤                    ×  out of tolerance
             │           ╭────────
        10⁻⁴ ┤ ──────────╯        a line per run, its tolerances as dashes in its colour
             └┬────┬────┬────┬──
          embeddings  layers.0  layers.1 …

    Branches (``… minus its input``) stand beside their blocks. An error that is no number is drawn at the top.

    Args:
        runs: run → its tensors in the order of the encoder.
    """
    names = list(dict.fromkeys(agreement.name for agreements in runs.values() for agreement in agreements))
    figure = new_figure(max(1280, 60 + 22 * len(names)), 720)
    axes = figure.add_subplot()
    for colour, (run, agreements) in zip(_cycled(SERIES_COLOURS), runs.items()):
        places = [names.index(agreement.name) for agreement in agreements]
        errors = [_on_axis(agreement.relative_error) for agreement in agreements]
        allowed = [_allowed_error(agreement) for agreement in agreements]
        axes.plot(places, errors, color=colour, marker="o", markersize=4, linewidth=2, label=run)
        axes.plot(places, allowed, color=colour, marker="_", markersize=10, linestyle="none")
        failed = [(x, y) for x, y, agreement in zip(places, errors, agreements) if not agreement.within()]
        axes.scatter(*zip(*failed) if failed else ([], []), color=BAD, marker="x", s=90, linewidths=3, zorder=3)
    axes.set_yscale("log")
    axes.set_ylim(_LOWEST, 2 * _HIGHEST)
    axes.set_xticks(range(len(names)), [_short_name(name) for name in names], rotation=90, fontsize=8)
    axes.set_ylabel("relative error ‖given − PyTorch‖ / ‖PyTorch‖ (top: inf or NaN)")
    axes.grid(axis="y", color="#e4e4e4")
    axes.set_title("\n".join(textwrap.wrap(title, 150)[:3]), loc="left", fontsize=11)
    axes.plot([], [], color="black", marker="_", markersize=10, linestyle="none", label="allowed")
    axes.scatter([], [], color=BAD, marker="x", s=90, linewidths=3, label="out of tolerance")
    axes.legend(loc="best", fontsize=9)
    return figure


def _cycled(colours: Sequence[str]):
    while True:
        yield from colours


def _on_axis(error: float) -> float:
    """The error within the axis; no number is the top."""
    return min(max(error, _LOWEST), _HIGHEST) if math.isfinite(error) else _HIGHEST


def _allowed_error(agreement: Agreement) -> float:
    """The relative error that its cosine's tolerance stands for."""
    return _on_axis(min(2 * (1 - agreement.tolerance.cosine), 4.0) ** 0.5)


def _short_name(name: str) -> str:
    """A module path without what all blocks share: ``layers.3``, ``what layers.3 adds``."""
    path, _, is_branch = name.partition(" minus ")
    short = path.removeprefix("vision_model.").removeprefix("encoder.").removeprefix("vision_model.")
    short = short.removeprefix("encoder.").removeprefix("compressors.")
    return f"what {short} adds" if is_branch else short
