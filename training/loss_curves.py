"""The losses of all parts as one picture, drawn with PIL alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont

_WIDTH, _HEIGHT, _MARGIN = 300, 220, 34  # pixels of one part's panel
_SMOOTHED_POINTS = 80


def draw_losses(curves: Mapping[str, Sequence[float]]) -> Image.Image:
    """One panel per part, side by side; each axis from zero to the part's largest loss."""
    image = Image.new("RGB", (_WIDTH * max(1, len(curves)), _HEIGHT), "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(13)
    for index, (name, losses) in enumerate(curves.items()):
        left, right = index * _WIDTH + _MARGIN, (index + 1) * _WIDTH - 10
        top, bottom = _MARGIN, _HEIGHT - 20
        pen.text((left, 8), f"{name}   last {losses[-1]:.3f}", fill="black", font=font)
        pen.line((left, top, left, bottom, right, bottom), fill="grey")
        points = _smooth(losses)
        highest = max(*points, 1e-9)
        pen.text((index * _WIDTH + 4, top), f"{highest:.1f}", fill="grey", font=font)
        pen.text((index * _WIDTH + 4, bottom - 12), "0", fill="grey", font=font)
        step = (right - left) / max(1, len(points) - 1)
        line = [(left + i * step, bottom - (bottom - top) * loss / highest) for i, loss in enumerate(points)]
        pen.line(line if len(line) > 1 else line * 2, fill=(40, 80, 220), width=2)
    return image


def _smooth(losses: Sequence[float]) -> list[float]:
    """Means over equal spans, so that a long curve stays readable."""
    span = max(1, len(losses) // _SMOOTHED_POINTS)
    spans = [losses[start : start + span] for start in range(0, len(losses), span)]
    return [sum(values) / len(values) for values in spans]
