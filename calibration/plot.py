"""Error and time by block as one chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from laco_export.charts import BAD, GOOD, QUIET, new_figure

from .blocks.block_errors import FeatureError
from .blocks.choice import BlockTime
from .report import short_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_blocks(
    errors: Mapping[str, FeatureError],
    times: Mapping[str, BlockTime] | None,
    chosen: tuple[str, ...],
    *,
    max_drop: float,
    merges_at: Sequence[int],
    title: str,
) -> Figure:
    """Two panels over one row of blocks: points lost by each alone, and its milliseconds before and after.

    Args:
        merges_at: the positions of the merges among the blocks: a line stands at each.
    """
    blocks, places = list(errors), range(len(errors))
    figure = new_figure(max(1280, 90 + 34 * len(blocks)), 660 if times else 420)
    panels = figure.subplots(2 if times else 1, 1, sharex=True, squeeze=False)[:, 0]
    colours = [GOOD if block in chosen else BAD for block in blocks]
    panels[0].bar(places, [errors[block].points for block in blocks], 0.7, color=colours)
    panels[0].axhline(max_drop, color=BAD, linewidth=1)
    panels[0].annotate(
        f"budget {max_drop:g}", (1, max_drop), xycoords=("axes fraction", "data"), ha="right", va="bottom"
    )
    panels[0].set_ylabel("points lost by the block alone")
    if times:
        panels[1].bar([place - 0.2 for place in places], [times[block].base for block in blocks], 0.4, color=QUIET)
        panels[1].bar(
            [place + 0.2 for place in places], [times[block].eight_bit for block in blocks], 0.4, color=colours
        )
        panels[1].set_ylabel("ms (grey: base precision)")
    for panel in panels:
        for place in merges_at:
            panel.axvline(place - 0.5, color="#78787f", linewidth=1)
    for place in merges_at:
        panels[0].annotate(" merge", (place - 0.5, 1), xycoords=("data", "axes fraction"), va="top", color="#78787f")
    panels[-1].set_xticks(places, [short_name(block) for block in blocks], rotation=90, fontsize=8)
    legend = f"green: eight bits ({len(chosen)} of {len(blocks)} blocks); red: left as it is"
    figure.suptitle(f"{title}\n{legend}", x=0.01, ha="left", fontsize=11)
    return figure
