"""Coloured shapes: the kinds shape-colour, shape-count and shape-position.

All shapes of a picture are of one kind and one colour; a single one is larger and is asked for its place. Pictures that
mix them ask a model to bind a colour to a place, which a decoder of this size takes longer to learn than the whole
recipe may last.
"""

from __future__ import annotations

from math import cos, pi, sin
from random import Random

from PIL import ImageDraw

from .scene import COLOURS, SIZE, Box, DrawnQuestion, Region, Sample, new_canvas, paint

SHAPES = ("circle", "square", "triangle", "star", "cross")
PLACES = (
    "top left",
    "top",
    "top right",
    "left",
    "centre",
    "right",
    "bottom left",
    "bottom",
    "bottom right",
)
MOST = 4  # shapes in one picture
_ALONE_SHARE = 0.4  # of the pictures: one shape, so that its place can be asked
_NUMBER_WORDS = ("One", "Two", "Three", "Four")


def draw_shapes(rng: Random) -> Sample:
    """One to four shapes of one kind and colour, of random sizes."""
    image, pen = new_canvas(rng)
    number = 1 if rng.random() < _ALONE_SHARE else rng.randint(2, MOST)
    shape, colour = rng.choice(SHAPES), rng.choice(list(COLOURS))
    place = None
    if number == 1:
        index = rng.randrange(len(PLACES))
        place, edge, half, offset = PLACES[index], SIZE / 3, rng.uniform(11.0, 15.0), 3.0
        cells = [(index // 3, index % 3)]
    else:  # on a grid of their own: a merged patch each
        edge, half, offset = SIZE / 4, rng.uniform(8.0, 11.0), 2.0
        cells = [(cell // 4, cell % 4) for cell in sorted(rng.sample(range(16), number))]
    regions = []
    for row, column in cells:
        x, y = (edge * (at + 0.5) + rng.uniform(-offset, offset) for at in (column, row))
        box = draw_shape(rng, pen, shape, colour, x, y, half)
        labels = {"thing": shape, "colour": colour, "total": number, **({"place": place} if place else {})}
        regions.append(Region(box, labels))
    plural = f" at the {place}" if place else "s"
    caption = f"{_NUMBER_WORDS[number - 1]} {colour} {shape}{plural}."
    return Sample(image, caption, tuple(ask_shapes(rng, shape, colour, number, place)), tuple(regions))


def draw_shape(rng: Random, pen: ImageDraw.ImageDraw, shape: str, colour: str, x: float, y: float, half: float) -> Box:
    """Draw a shape of width 2·``half`` around (x, y) [px]; returns its box."""
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


def ask_shapes(rng: Random, shape: str, colour: str, number: int, place: str | None) -> list[DrawnQuestion]:
    """The questions that have one right answer, in random order; ``place`` is that of a single shape."""
    counted = rng.choice((f"{shape}s", "shapes"))
    asked = f"is the {shape}" if place else f"are the {shape}s"
    questions = [
        DrawnQuestion("shape-count", f"How many {counted} are there?", str(number)),
        DrawnQuestion("shape-colour", f"What colour {asked}?", colour),
        DrawnQuestion("shape-name", "Which shape is shown?", shape),
    ]
    if place:
        questions.append(DrawnQuestion("shape-position", f"Where is the {shape}?", place))
    rng.shuffle(questions)
    return questions
