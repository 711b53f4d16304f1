"""Encode time by depth as a picture, with the line that the operations alone would give; drawn with PIL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, log10

from PIL import Image, ImageDraw, ImageFont

_WIDTH, _HEIGHT = 900, 520
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 300, 64, 64  # margins in pixels; the legend stands in the right one
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
    ticks = _round_ticks(1.1 * max(max(point.ms for point in points) for points in series.values()))
    highest = ticks[-1]
    across = lambda depth: _LEFT + depth * (_WIDTH - _LEFT - _RIGHT)
    down = lambda ms: _HEIGHT - _BOTTOM - ms / highest * (_HEIGHT - _TOP - _BOTTOM)
    pen.text((_LEFT, 16), title, fill="black", font=font)
    _axes(pen, small, across, down, ticks, sorted({point.depth for points in series.values() for point in points}))
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
            # Above the line and to its left, or below it and to its right: never on it, since lines only rise.
            place, anchor = ((x - 6, y - 7), "rb") if index % 2 == 0 else ((x + 6, y + 7), "lt")
            pen.text(place, _number(point.ms), fill=colour, font=small, anchor=anchor)
        _legend(pen, small, name, colour, _TOP + 44 * index)
    return image


def _number(value: float) -> str:
    """Three digits, and never as a power of ten: ``1255``, ``84.6``, ``0.012``."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _legend(pen, font, name: str, colour, row: int) -> None:
    left = _WIDTH - _RIGHT + 50
    pen.line((left, row + 8, left + 30, row + 8), fill=colour, width=3)
    pen.text((left + 38, row), name, fill="black", font=font)
    _dashed(pen, [(left, row + 26), (left + 30, row + 26)], colour)
    pen.text((left + 38, row + 18), "by FLOPs alone", fill="grey", font=font)


def _round_ticks(least: float) -> list[float]:
    """From 0 in steps of 1, 2 or 5 times a power of ten, four to seven of them, the last not below ``least``."""
    power = 10.0 ** floor(log10(least / 4))
    step = next(factor * power for factor in (1, 2, 5, 10) if least / (factor * power) <= 6)
    return [step * index for index in range(ceil(least / step) + 1)]


def _axes(pen, font, across, down, ticks: Sequence[float], depths: Sequence[float]) -> None:
    pen.line((_LEFT, _TOP, _LEFT, down(0), across(1), down(0)), fill="grey", width=1)
    for value in ticks:
        pen.line((_LEFT, down(value), across(1), down(value)), fill=(230, 230, 230))
        pen.text((_LEFT - 10, down(value)), _number(value), fill="grey", font=font, anchor="rm")
    for depth in depths:
        pen.line((across(depth), down(0), across(depth), down(0) + 5), fill="grey")
        pen.text((across(depth) - 14, down(0) + 8), f"{depth:.2f}", fill="grey", font=font)
    pen.text((_LEFT, _HEIGHT - 28), "depth: share of the blocks before the merge", fill="grey", font=font)
    pen.text((_LEFT - 40, _TOP - 26), "ms a picture", fill="grey", font=font)


def _dashed(pen, points: Sequence[tuple[float, float]], colour) -> None:
    for (x0, y0), (x1, y1) in pairwise(points):
        length = max(1.0, ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5)
        steps = int(length // 12) + 1
        for step in range(steps):
            a, b = step / steps, (step + 0.5) / steps
            line = (x0 + a * (x1 - x0), y0 + a * (y1 - y0), x0 + b * (x1 - x0), y0 + b * (y1 - y0))
            pen.line(line, fill=colour, width=2)
