"""Simple bar charts of three bars in different colours: the kind bar-chart."""

from __future__ import annotations

from random import Random

from .scene import COLOURS, SIZE, DrawnQuestion, Region, Sample, new_canvas, paint

HIGHEST = 5  # units
_UNIT = 19  # pixels for one unit
_BARS = 3
_STEP, _WIDTH = 28, 20  # pixels from bar to bar (one merged patch), and of a bar


def draw_chart(rng: Random) -> Sample:
    """Three bars of one to five units on a line."""
    image, pen = new_canvas(rng)
    colours = rng.sample(list(COLOURS), _BARS)
    values = [rng.randint(1, HIGHEST) for _ in colours]
    floor, left = rng.uniform(104, 108), _STEP * rng.randint(0, SIZE // _STEP - _BARS) + rng.uniform(2, 6)
    pen.line((left - 2, floor, left + _STEP * _BARS - 6, floor), fill=(90, 90, 90))
    regions = []
    for index, (value, colour) in enumerate(zip(values, colours, strict=True)):
        x = left + _STEP * index
        bar = (x, floor - value * _UNIT, x + _WIDTH, floor - 1)
        pen.rectangle(bar, fill=paint(rng, colour))
        labels = {"thing": "bar", "colour": colour, "number": value, "rank": _rank(value, values)}
        regions.append(Region(bar, labels))
    caption = "Bars: " + ", ".join(f"{colour} {value}" for value, colour in zip(values, colours, strict=True)) + "."
    return Sample(image, caption, tuple(_ask(rng, values, colours)), tuple(regions))


def _rank(value: int, values: list[int]) -> str:
    """``highest`` and ``lowest`` where a single bar is."""
    if value == max(values) and values.count(value) == 1:
        return "highest"
    return "lowest" if value == min(values) and values.count(value) == 1 else "between"


def _ask(rng: Random, values: list[int], colours: list[str]) -> list[DrawnQuestion]:
    """Colour and height of the bar that alone is highest or lowest; always at least the number of bars."""
    questions = [DrawnQuestion("bar-count", "How many bars are there?", str(len(values)))]
    for value, colour in zip(values, colours, strict=True):
        rank = _rank(value, values)
        if rank != "between":
            questions.append(DrawnQuestion("bar-chart", f"Which bar is the {rank}?", colour))
            questions.append(DrawnQuestion("bar-chart", f"How high is the {rank} bar?", str(value)))
    rng.shuffle(questions)
    return questions
