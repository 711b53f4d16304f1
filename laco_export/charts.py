"""Charts as PNG and SVG files, by matplotlib: one size in pixels, one palette, one way to save for all plots.

matplotlib comes with the extras that draw (``export``, ``train``) and with ``plots``; it is imported where a chart is
made, and no window system, no global state and no configuration of the user's is touched. Nor is a list of fonts left
in the cache of a user who has none: matplotlib writes one when it is imported, and looking again takes it a second.
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from .atomic import write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SERIES_COLOURS = ("#1e5ac8", "#d25a14", "#148c46", "#8c3ca0", "#5a5a5a", "#78641e", "#c81e50")
"""Of series, in order; distinct in print too. Red is left for what failed."""

GOOD, BAD, QUIET = "#14783c", "#c80000", "#aaaab4"
_DPI = 100


def new_figure(width: int, height: int) -> Figure:
    """An empty figure of ``width`` × ``height`` pixels whose parts make room for each other."""
    _import_without_traces()
    from matplotlib.figure import Figure

    return Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, layout="constrained")


def _import_without_traces() -> None:
    """Import matplotlib with a temporary folder for its settings and its list of fonts, unless the user has such."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if "matplotlib" in sys.modules or "MPLCONFIGDIR" in os.environ or os.path.isdir(os.path.join(cache, "matplotlib")):
        return
    with TemporaryDirectory(prefix="laco-fonts-") as folder:
        os.environ["MPLCONFIGDIR"] = folder  # read once
        try:
            import matplotlib.font_manager  # noqa: F401
        finally:
            del os.environ["MPLCONFIGDIR"]


def png_bytes(figure: Figure) -> bytes:
    """The figure as a PNG file's content."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def svg_text(figure: Figure) -> str:
    """The figure as an SVG document whose letters are shapes, so that it needs no font; the same bytes each time."""
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": "laco-export"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def save_chart(figure: Figure, path: Path) -> None:
    """Write the figure to ``path`` in one step, as SVG where its name ends so, else as PNG."""
    write_bytes(path, svg_text(figure).encode() if path.suffix.lower() == ".svg" else png_bytes(figure))
