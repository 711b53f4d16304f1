"""The error of each boundary as a picture, drawn with PIL alone: one line per run, on a logarithmic scale."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont

from ..agreement import Agreement

_WIDTH, _PLOT_HEIGHT = 1280, 420  # pixels
_LEFT, _RIGHT, _TOP = 90, 30, 96
_COLOURS = ((30, 90, 200), (210, 90, 20), (20, 140, 70), (140, 60, 160), (90, 90, 90))
_FAILED = (200, 0, 0)
_DECADES = range(-9, 2)
_AXES = (
    "relative error |given - PyTorch| / |PyTorch|;   dash: allowed;   red cross: out of tolerance;   "
    "at the top: inf or NaN"
)
"""In ASCII, like the titles: PIL's own font has no other mathematical signs."""


def draw_errors(runs: Mapping[str, Sequence[Agreement]], *, title: str) -> Image.Image:
    """Relative error by boundary.

    ::

        10⁰  ┤                    ×  out of tolerance
             │           ╭────────
        10⁻⁴ ┤ ──────────╯        a line per run, its tolerances as dashes in its colour
             └┬────┬────┬────┬──
          embeddings  layers.0  layers.1 …

    Branches (``… minus its input``) stand beside their blocks. An error that is no number is drawn at the top.
    """
    names = list(dict.fromkeys(tensor.name for agreements in runs.values() for tensor in agreements))
    short = _short_names(names)
    font, small = ImageFont.load_default(14), ImageFont.load_default(11)
    labels = max(int(small.getlength(name)) for name in short) + 12
    legend = 20 * len(runs)
    height = _TOP + legend + _PLOT_HEIGHT + labels + 10
    image = Image.new("RGB", (_WIDTH, height), "white")
    pen = ImageDraw.Draw(image)
    for row, line in enumerate(textwrap.wrap(title, 150)[:3]):
        pen.text((12, 8 + 18 * row), line, fill="black", font=font)
    pen.text((12, 66), _AXES, "grey", font)
    for index, run in enumerate(runs):
        y = _TOP + 20 * index
        pen.line((14, y + 9, 44, y + 9), fill=_COLOURS[index % len(_COLOURS)], width=3)
        pen.text((52, y), run, fill="black", font=font)
    top = _TOP + legend + 6
    bottom = top + _PLOT_HEIGHT - 6
    across = lambda position: _LEFT + (_WIDTH - _LEFT - _RIGHT) * (position + 0.5) / len(names)
    down = lambda error: bottom - (bottom - top) * (_decade(error) - _DECADES[0]) / (_DECADES[-1] - _DECADES[0])
    _draw_axes(pen, image, short, across, down, (top, bottom), small)
    for index, agreements in enumerate(runs.values()):
        colour = _COLOURS[index % len(_COLOURS)]
        points = [(across(names.index(tensor.name)), down(tensor.relative_error), tensor) for tensor in agreements]
        pen.line([point[:2] for point in points], fill=colour, width=2)
        for x, y, tensor in points:
            allowed = down(min(2 * (1 - tensor.tolerance.cosine), 4.0) ** 0.5)
            pen.line((x - 5, allowed, x + 5, allowed), fill=colour)
            if tensor.within():
                pen.ellipse((x - 2, y - 2, x + 2, y + 2), fill=colour)
            else:
                pen.line((x - 6, y - 6, x + 6, y + 6), fill=_FAILED, width=3)
                pen.line((x - 6, y + 6, x + 6, y - 6), fill=_FAILED, width=3)
    return image


def _draw_axes(pen, image, names, across, down, span, font) -> None:
    top, bottom = span
    for decade in _DECADES:
        y = down(10.0**decade)
        pen.line((_LEFT, y, _WIDTH - _RIGHT, y), fill=(228, 228, 228))
        pen.text((_LEFT - 48, y - 7), f"1e{decade:+d}", fill="grey", font=font)
    pen.line((_LEFT, top, _LEFT, bottom, _WIDTH - _RIGHT, bottom), fill="grey")
    for position, name in enumerate(names):
        label = Image.new("RGB", (int(font.getlength(name)) + 4, 14), "white")
        ImageDraw.Draw(label).text((0, 0), name, fill="black", font=font)
        image.paste(label.rotate(90, expand=True), (int(across(position)) - 7, bottom + 6))


def _decade(error: float) -> float:
    """``log10`` within the axis; no number is the top."""
    if not math.isfinite(error):
        return _DECADES[-1]
    return min(max(math.log10(max(error, 1e-30)), _DECADES[0]), _DECADES[-1])


def _short_names(names: Sequence[str]) -> list[str]:
    """Module paths without what all blocks share: ``layers.3``, ``+3`` for what block 3 adds."""
    short = []
    for name in names:
        path, _, rest = name.partition(" minus ")
        shortened = path.removeprefix("vision_model.").removeprefix("encoder.").removeprefix("vision_model.")
        shortened = shortened.removeprefix("encoder.").removeprefix("compressors.")
        short.append(f"what {shortened} adds" if rest else shortened)
    return short
