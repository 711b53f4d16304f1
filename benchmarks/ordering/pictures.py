"""The accuracy of every arm over its steps, and each arm's share of LaCo@1's, as pictures; drawn with PIL alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont

from .verdict import Row

_WIDTH, _PANEL, _MARGIN, _LEGEND = 1100, 330, 40, 260  # pixels
_COLOURS = ((31, 93, 200), (214, 84, 22), (34, 139, 84), (150, 60, 160), (120, 100, 20), (200, 30, 80))


def draw_curves(results: Mapping[int, Mapping[str, dict]], rows: Sequence[Row]) -> Image.Image:
    """A panel for each group: accuracy after each measured step, a thin line a seed; steps as shares of the budget."""
    groups = list(dict.fromkeys(row.group for row in rows))
    image = Image.new("RGB", (_WIDTH, _PANEL * len(groups)), "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(14)
    for number, group in enumerate(groups):
        top, bottom = number * _PANEL + _MARGIN, (number + 1) * _PANEL - _MARGIN
        left, right = _MARGIN + 10, _WIDTH - _LEGEND
        pen.text((left, top - 28), f"{group}: share of letters read, over the steps; a line a seed", "black", font)
        lengths = _steps(next(seed[row.name] for seed in results.values() for row in rows if row.name in seed)["curve"])
        border = left + (right - left) * lengths["1"] / sum(lengths.values())
        pen.line((border, top, border, bottom), (170, 170, 170))
        for place, stage in ((left, "stage 1"), (border, "stage 2")):
            pen.text((place + 4, bottom + 4), stage, "grey", font)
        for tenth in range(0, 11, 2):
            y = bottom - (bottom - top) * tenth / 10
            pen.line((left, y, right, y), (225, 225, 225))
            pen.text((8, y - 8), f"{tenth / 10:.1f}", "grey", font)
        shown = [row.name for row in rows if row.group == group or row.name == "laco@1/4"]
        for place, name in enumerate(shown):
            colour = _COLOURS[place % len(_COLOURS)]
            pen.text((right + 12, top + 22 * place), name, colour, font)
            for seed in results.values():
                if name in seed:
                    points = _points(seed[name]["curve"])
                    line = [(left + x * (right - left), bottom - y * (bottom - top)) for x, y in points]
                    pen.line(line, colour, 2)
    return image


def _points(curve: Sequence[Mapping]) -> list[tuple[float, float]]:
    """(share of the arm's steps, accuracy)."""
    lengths = _steps(curve)
    total, first = sum(lengths.values()), lengths.get("1", 0)
    return [((p["step"] + (first if p["stage"] == "2" else 0)) / total, p["accuracy"]) for p in curve]


def _steps(curve: Sequence[Mapping]) -> dict[str, int]:
    """Steps of each stage."""
    return {stage: max(p["step"] for p in curve if p["stage"] == stage) for stage in ("1", "2")}
