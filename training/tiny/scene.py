"""What a drawn sample is: a picture, what stands where in it, and the questions that it answers.

Every drawer of the tiny recipe (:mod:`.shapes`, :mod:`.writing`, :mod:`.charts`) returns a :class:`Sample`;
:mod:`.dataset` writes it to disk. A sample's random numbers come from a ``random.Random`` that the caller seeds, so it
does not depend on the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from random import Random

from PIL import Image, ImageDraw, ImageFont

SIZE = 112  # pixels; 8x8 patches of AIMv2's 14 px, 4x4 after the merge
COLOURS = {
    "red": (222, 40, 45),
    "green": (35, 160, 70),
    "blue": (45, 85, 225),
    "orange": (248, 155, 30),
    "purple": (150, 50, 185),
}
BACKGROUNDS = ((255, 255, 255), (250, 246, 232), (236, 240, 248), (240, 248, 238), (232, 232, 232))
NOTHING = "nothing"  # what stands where no region lies, in the words of both pretrainings
_COLOUR_JITTER = 14  # per channel: no two reds are alike, and none is taken for orange

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels


@dataclass(frozen=True)
class Region:
    """One thing in a picture, for the encoder's pretraining: its box and its labels (field name -> value)."""

    box: Box
    labels: dict[str, str | int]


@dataclass(frozen=True)
class DrawnQuestion:
    """One question of a named kind with its only right answer."""

    kind: str
    text: str
    answer: str


@dataclass(frozen=True)
class Sample:
    """A drawn picture [RGB, SIZE x SIZE], a caption, its questions, its regions, and the text written in it."""

    image: Image.Image
    caption: str
    questions: tuple[DrawnQuestion, ...]
    regions: tuple[Region, ...]
    text: str = ""


def new_canvas(rng: Random) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """An empty picture on one of the light backgrounds, and the pen for it."""
    image = Image.new("RGB", (SIZE, SIZE), rng.choice(BACKGROUNDS))
    return image, ImageDraw.Draw(image)


def paint(rng: Random, colour: str) -> tuple[int, int, int]:
    """A colour of that name, a little different each time."""
    return tuple(max(0, min(255, c + rng.randint(-_COLOUR_JITTER, _COLOUR_JITTER))) for c in COLOURS[colour])


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """PIL's built-in font, which exists wherever Pillow has FreeType (all its wheels do)."""
    return ImageFont.load_default(size)
