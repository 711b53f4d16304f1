"""Encode time by depth as a picture, with the line that the operations alone would give; drawn with PIL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from PIL import Image, ImageDraw, ImageFont

_WIDTH, _HEIGHT = 900, 520
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 250, 56, 64  # margins in pixels; the legend stands in the right one
_COLOURS = ((31, 93, 200), (214, 84, 22), (34, 139, 84), (150, 60, 160), (120, 100, 20), (200, 30, 80))


@dataclass(frozen=True)
class Point:
    """One bundle at one batch size.

    Attributes:
        depth: share of the blocks before the merge.
        ms: milliseconds a picture.
        flops: operations a picture.
    """

    depth: float
    ms: float
    flops: float


def draw_by_depth(series: dict[str, Sequence[Point]], title: str) -> Image.Image:
    """One line a series over depth, and dashed in its colour what its deepest point would shrink to by FLOPs.

    Args:
        series: name → points; each series has its own dashed line, from its deepest point.
        title: device and settings, above the picture.
    """
    image = Image.new("RGB", (_WIDTH, _HEIGHT), "white")
    pen, font, small = ImageDraw.Draw(image), ImageFont.load_default(15), ImageFont.load_default(13)
    highest = 1.1 * max(max(point.ms for point in points) for points in series.values())
    across = lambda depth: _LEFT + depth * (_WIDTH - _LEFT - _RIGHT)
    down = lambda ms: _HEIGHT - _BOTTOM - ms / highest * (_HEIGHT - _TOP - _BOTTOM)
    pen.text((_LEFT, 16), title, fill="black", font=font)
    _axes(pen, small, across, down, highest, sorted({point.depth for points in series.values() for point in points}))
    for index, (name, points) in enumerate(series.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        points = sorted(points, key=lambda point: point.depth)
        deepest = points[-1]
        by_flops = [(across(p.depth), down(deepest.ms * p.flops / deepest.flops)) for p in points]
        measured = [(across(point.depth), down(point.ms)) for point in points]
        _dashed(pen, by_flops, colour)
        if len(measured) > 1:
            pen.line(measured, fill=colour, width=3)
        for (x, y), point in zip(measured, points):
            pen.ellipse((x - 5, y - 5, x + 5, y + 5), fill=colour)
            pen.text((x + 8, y - 18), f"{point.ms:.3g}", fill=colour, font=small)
        row = _TOP + 8 + 44 * index
        pen.line((_WIDTH - _RIGHT + 20, row + 8, _WIDTH - _RIGHT + 50, row + 8), fill=colour, width=3)
        pen.text((_WIDTH - _RIGHT + 58, row), name, fill="black", font=small)
        _dashed(pen, [(_WIDTH - _RIGHT + 20, row + 26), (_WIDTH - _RIGHT + 50, row + 26)], colour)
        pen.text((_WIDTH - _RIGHT + 58, row + 18), "by FLOPs alone", fill="grey", font=small)
    return image


def _axes(pen, font, across, down, highest: float, depths: Sequence[float]) -> None:
    pen.line((_LEFT, _TOP, _LEFT, down(0), across(1), down(0)), fill="grey", width=1)
    for share in (0, 0.25, 0.5, 0.75, 1):
        value = share * highest
        pen.line((_LEFT, down(value), across(1), down(value)), fill=(230, 230, 230))
        pen.text((12, down(value) - 8), f"{value:.3g}", fill="grey", font=font)
    for depth in depths:
        pen.line((across(depth), down(0), across(depth), down(0) + 5), fill="grey")
        pen.text((across(depth) - 14, down(0) + 8), f"{depth:.2f}", fill="grey", font=font)
    pen.text((_LEFT, _HEIGHT - 28), "depth: share of the blocks before the merge", fill="grey", font=font)
    pen.text((12, _TOP - 22), "ms a picture", fill="grey", font=font)


def _dashed(pen, points: Sequence[tuple[float, float]], colour) -> None:
    for (x0, y0), (x1, y1) in pairwise(points):
        length = max(1.0, ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5)
        steps = int(length // 12) + 1
        for step in range(steps):
            a, b = step / steps, (step + 0.5) / steps
            line = (x0 + a * (x1 - x0), y0 + a * (y1 - y0), x0 + b * (x1 - x0), y0 + b * (y1 - y0))
            pen.line(line, fill=colour, width=2)
