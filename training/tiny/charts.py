"""Simple bar charts of three bars in different colours: the kind bar-chart."""

from __future__ import annotations

from random import Random

from .scene import COLOURS, SIZE, Question, Region, Sample, new_canvas, one_of, paint

HIGHEST = 5  # units
_UNIT = 19  # pixels for one unit
_BARS = 3
_STEP, _WIDTH = 34, 23  # pixels from bar to bar, and of a bar

_ASK_TOP = ("Which bar is the highest?", "Which bar is the tallest?")
_ASK_LOW = ("Which bar is the lowest?", "Which bar is the shortest?")
_ASK_VALUE = ("How high is the {colour} bar?", "What is the value of the {colour} bar?")


def draw_chart(rng: Random) -> Sample:
    """Three bars of one to five units on a line."""
    image, pen = new_canvas(rng)
    colours = rng.sample(list(COLOURS), _BARS)
    values = [rng.randint(1, HIGHEST) for _ in colours]
    floor, left = rng.uniform(104, 108), rng.uniform(5, 14)
    pen.line((left - 4, floor, SIZE - 3, floor), fill=(90, 90, 90))
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
    """`highest` and `lowest` where a single bar is."""
    if value == max(values) and values.count(value) == 1:
        return "highest"
    return "lowest" if value == min(values) and values.count(value) == 1 else "between"


def _ask(rng: Random, values: list[int], colours: list[str]) -> list[Question]:
    questions = []
    for value, colour in zip(values, colours, strict=True):
        questions.append(Question("bar-chart", one_of(rng, _ASK_VALUE, colour=colour), str(value)))
        rank = _rank(value, values)
        if rank != "between":
            asked = _ASK_TOP if rank == "highest" else _ASK_LOW
            questions.append(Question("bar-chart", one_of(rng, asked), colour))
    rng.shuffle(questions)
    return questions
