"""Simple bar charts, three to five bars with a letter under each: the kind bar-chart."""

from __future__ import annotations

from random import Random
from string import ascii_uppercase

from .scene import COLOURS, SIZE, Question, Region, Sample, font, new_canvas, one_of, paint

HIGHEST = 6  # units; the value axis has a line for each
_UNIT = 13  # pixels for one unit
_FLOOR = 90  # pixel row that the bars stand on
_LABEL_SIZE = 20  # font size of the letters under the bars

_ASK_TOP = ("Which bar is the highest?", "Which bar is the tallest?")
_ASK_LOW = ("Which bar is the lowest?", "Which bar is the shortest?")
_ASK_VALUE = ("What is the value of bar {letter}?", "How high is bar {letter}?")
_ASK_COLOUR = ("What colour is bar {letter}?",)
_ASK_NUMBER = ("How many bars are there?",)


def draw_chart(rng: Random) -> Sample:
    """A chart whose highest and lowest bars are unique."""
    image, pen = new_canvas(rng)
    letters = rng.sample(ascii_uppercase, rng.randint(3, 5))
    values = _values(rng, len(letters))
    colours = [rng.choice(list(COLOURS)) for _ in letters]
    for unit in range(HIGHEST + 1):
        grey = 120 if unit == 0 else 205
        pen.line((4, _FLOOR - unit * _UNIT, SIZE - 4, _FLOOR - unit * _UNIT), fill=(grey, grey, grey))
    step = (SIZE - 10) / len(letters)
    shift = rng.uniform(-2, 2)
    regions = []
    for index, (letter, value, colour) in enumerate(zip(letters, values, colours, strict=True)):
        middle = 5 + step * (index + 0.5) + shift
        half = min(step, 25) * rng.uniform(0.32, 0.42)
        bar = (middle - half, _FLOOR - value * _UNIT, middle + half, _FLOOR - 1)
        pen.rectangle(bar, fill=paint(rng, colour))
        width = font(_LABEL_SIZE).getlength(letter)
        left, top = middle - width / 2, _FLOOR + 3
        pen.text((left, top - font(_LABEL_SIZE).getbbox("H")[1]), letter, font=font(_LABEL_SIZE), fill=(40, 40, 40))
        rank = "highest" if value == max(values) else "lowest" if value == min(values) else "between"
        labels = {"colour": colour, "number": value, "total": len(letters), "rank": rank}
        regions.append(Region(bar, {"thing": "bar", **labels}))
        regions.append(Region((left, top, left + width, SIZE - 4), {"thing": letter, **labels}))
    bars = list(zip(letters, values, colours, strict=True))
    caption = "Bars: " + ", ".join(f"{letter} {colour} {value}" for letter, value, colour in bars) + "."
    return Sample(image, caption, tuple(_ask(rng, bars)), tuple(regions))


def _values(rng: Random, number: int) -> list[int]:
    while True:
        values = [rng.randint(1, HIGHEST) for _ in range(number)]
        if values.count(max(values)) == 1 and values.count(min(values)) == 1:
            return values


def _ask(rng: Random, bars: list[tuple[str, int, str]]) -> list[Question]:
    top = max(bars, key=lambda bar: bar[1])
    low = min(bars, key=lambda bar: bar[1])
    questions = [
        Question("bar-chart", one_of(rng, _ASK_TOP), top[0]),
        Question("bar-chart", one_of(rng, _ASK_LOW), low[0]),
        Question("bar-chart", one_of(rng, _ASK_NUMBER), str(len(bars))),
    ]
    for letter, value, colour in bars:
        questions.append(Question("bar-chart", one_of(rng, _ASK_VALUE, letter=letter), str(value)))
        questions.append(Question("bar-chart", one_of(rng, _ASK_COLOUR, letter=letter), colour))
    rng.shuffle(questions)
    return questions
