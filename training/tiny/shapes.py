"""Coloured shapes on a 3x3 grid of places: the kinds shape-colour, shape-count and shape-position."""

from __future__ import annotations

from math import cos, pi, sin
from random import Random

from PIL import ImageDraw

from .scene import COLOURS, SIZE, Question, Region, Sample, new_canvas, one_of, paint

SHAPES = ("circle", "square", "triangle", "star", "cross")
PLACES = (
    "top left", "top", "top right",
    "left", "centre", "right",
    "bottom left", "bottom", "bottom right",
)  # fmt: skip
MOST = 6  # shapes in one picture

_ASK_COLOUR = ("What colour is the {shape}?", "Which colour does the {shape} have?")
_ASK_COLOUR_AT = ("What colour is the shape at the {place}?",)
_ASK_PLACE = ("Where is the {colour} {shape}?", "In which place is the {colour} {shape}?")
_ASK_SHAPE_AT = ("Which shape is at the {place}?",)
_ASK_COUNT = ("How many {shape}s are there?", "Count the {shape}s.")
_ASK_TOTAL = ("How many shapes are there?", "Count the shapes.")


def draw_shapes(rng: Random) -> Sample:
    """One to six shapes; names are drawn from two to three so that counts above one are common."""
    image, pen = new_canvas(rng)
    number = rng.randint(1, MOST)
    names = rng.sample(SHAPES, rng.randint(1, 3))
    things = [(rng.choice(names), rng.choice(list(COLOURS))) for _ in range(number)]
    places = sorted(rng.sample(range(9), number))
    of_kind = {name: sum(shape == name for shape, _ in things) for name in names}
    regions = []
    for (shape, colour), place in zip(things, places, strict=True):
        box = draw_shape(rng, pen, shape, colour, place)
        labels = {"thing": shape, "colour": colour, "number": of_kind[shape], "total": number}
        regions.append(Region(box, labels))
    placed = [(shape, colour, PLACES[place]) for (shape, colour), place in zip(things, places, strict=True)]
    caption = " ".join(f"{_article(colour)} {colour} {shape} at the {place}." for shape, colour, place in placed)
    return Sample(image, caption, tuple(ask_shapes(rng, placed, of_kind)), tuple(regions))


def draw_shape(rng: Random, pen: ImageDraw.ImageDraw, shape: str, colour: str, place: int) -> tuple:
    """Draw into cell `place` (0..8) at a random size and offset; returns the box [px]."""
    cell = SIZE / 3
    half = rng.uniform(10.0, 15.5)
    slack = cell / 2 - half - 1
    x = cell * (place % 3 + 0.5) + rng.uniform(-slack, slack)
    y = cell * (place // 3 + 0.5) + rng.uniform(-slack, slack)
    box = (x - half, y - half, x + half, y + half)
    fill = paint(rng, colour)
    if shape == "circle":
        pen.ellipse(box, fill=fill)
    elif shape == "square":
        pen.rectangle((x - 0.9 * half, y - 0.9 * half, x + 0.9 * half, y + 0.9 * half), fill=fill)
    elif shape == "triangle":
        pen.polygon(((x, box[1]), (box[2], box[3]), (box[0], box[3])), fill=fill)
    elif shape == "cross":
        arm = half * 0.34
        pen.rectangle((x - arm, box[1], x + arm, box[3]), fill=fill)
        pen.rectangle((box[0], y - arm, box[2], y + arm), fill=fill)
    else:
        radii = (half if corner % 2 == 0 else 0.45 * half for corner in range(10))
        pen.polygon([(x + r * sin(i * pi / 5), y - r * cos(i * pi / 5)) for i, r in enumerate(radii)], fill=fill)
    return box


def ask_shapes(rng: Random, placed: list[tuple[str, str, str]], of_kind: dict[str, int]) -> list[Question]:
    """The questions that have one right answer in a picture of (shape, colour, place) triples, in random order."""
    questions = []
    for shape, colour, place in placed:
        if of_kind[shape] == 1:
            questions.append(Question("shape-colour", one_of(rng, _ASK_COLOUR, shape=shape), colour))
        if sum((s, c) == (shape, colour) for s, c, _ in placed) == 1:
            text = one_of(rng, _ASK_PLACE, colour=colour, shape=shape)
            questions.append(Question("shape-position", text, place))
        questions.append(Question("shape-colour", one_of(rng, _ASK_COLOUR_AT, place=place), colour))
        questions.append(Question("shape-position", one_of(rng, _ASK_SHAPE_AT, place=place), shape))
    for shape, count in of_kind.items():
        if count:
            questions.append(Question("shape-count", one_of(rng, _ASK_COUNT, shape=shape), str(count)))
    questions.append(Question("shape-count", one_of(rng, _ASK_TOTAL), str(len(placed))))
    rng.shuffle(questions)
    return questions


def _article(word: str) -> str:
    return "An" if word[0] in "aeiou" else "A"
