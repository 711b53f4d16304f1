"""Coloured shapes, at most one in each quarter of the picture: the kinds shape-colour, shape-count, shape-position."""

from __future__ import annotations

from math import cos, pi, sin
from random import Random

from PIL import ImageDraw

from .scene import COLOURS, SIZE, Box, Question, Region, Sample, new_canvas, one_of, paint

SHAPES = ("circle", "square", "triangle", "star", "cross")
PLACES = ("top left", "top right", "bottom left", "bottom right")

_ASK_COLOUR = ("What colour is the {shape}?", "Which colour does the {shape} have?")
_ASK_COLOUR_AT = ("What colour is the shape at the {place}?",)
_ASK_PLACE = ("Where is the {colour} {shape}?",)
_ASK_SHAPE_AT = ("Which shape is at the {place}?",)
_ASK_COUNT = ("How many shapes are there?", "Count the shapes.")


def draw_shapes(rng: Random) -> Sample:
    """One to four shapes of random kinds, colours and sizes."""
    image, pen = new_canvas(rng)
    places = sorted(rng.sample(range(len(PLACES)), rng.randint(1, len(PLACES))))
    placed = [(rng.choice(SHAPES), rng.choice(list(COLOURS)), PLACES[place]) for place in places]
    regions = []
    for (shape, colour, name), place in zip(placed, places, strict=True):
        box = draw_shape(rng, pen, shape, colour, place)
        labels = {"thing": shape, "colour": colour, "place": name, "total": len(placed)}
        regions.append(Region(box, labels))
    caption = " ".join(f"{_article(colour)} {colour} {shape} at the {place}." for shape, colour, place in placed)
    return Sample(image, caption, tuple(ask_shapes(rng, placed)), tuple(regions))


def draw_shape(rng: Random, pen: ImageDraw.ImageDraw, shape: str, colour: str, place: int) -> Box:
    """Draw into quarter `place` (0..3, row by row) at a random size and offset; returns the box [px]."""
    quarter = SIZE / 2
    half = rng.uniform(13.0, 20.0)
    x = quarter * (place % 2 + 0.5) + rng.uniform(-7, 7)
    y = quarter * (place // 2 + 0.5) + rng.uniform(-7, 7)
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


def ask_shapes(rng: Random, placed: list[tuple[str, str, str]]) -> list[Question]:
    """The questions that have one right answer in a picture of (shape, colour, place) triples, in random order."""
    questions = [Question("shape-count", one_of(rng, _ASK_COUNT), str(len(placed)))]
    for shape, colour, place in placed:
        if sum(other == shape for other, _, _ in placed) == 1:
            questions.append(Question("shape-colour", one_of(rng, _ASK_COLOUR, shape=shape), colour))
        if sum(other[:2] == (shape, colour) for other in placed) == 1:
            text = one_of(rng, _ASK_PLACE, colour=colour, shape=shape)
            questions.append(Question("shape-position", text, place))
        questions.append(Question("shape-colour", one_of(rng, _ASK_COLOUR_AT, place=place), colour))
        questions.append(Question("shape-position", one_of(rng, _ASK_SHAPE_AT, place=place), shape))
    rng.shuffle(questions)
    return questions


def _article(word: str) -> str:
    return "An" if word[0] in "aeiou" else "A"
