"""A short word or a number written in a picture: the kinds words and digits."""

from __future__ import annotations

from random import Random

from PIL import ImageDraw

from .scene import COLOURS, SIZE, Question, Region, Sample, font, new_canvas, one_of, paint

ADVANCE = 28  # pixels from letter to letter: one merged patch
_JITTER = 3  # pixels that each letter stands off its place, left or right
_SIZES = (27, 31)  # of the font; capitals are about 20 pixels high
PAGE_ROWS = 4

_ASK_READ = {"word": ("What word is written?", "Read the word."), "number": ("What number is written?", "Read the number.")}
_ASK_COLOUR = ("What colour is the {noun}?",)


def draw_writing(rng: Random, text: str) -> Sample:
    """`text` (two or three letters or digits) somewhere in the picture, in one colour."""
    image, pen = new_canvas(rng)
    colour = rng.choice(list(COLOURS))
    regions = write_line(rng, pen, text, colour, top=rng.uniform(2, SIZE - 26))
    noun = noun_of(text)
    questions = [
        Question("digits" if noun == "number" else "words", one_of(rng, _ASK_READ[noun]), text),
        Question("text-colour", one_of(rng, _ASK_COLOUR, noun=noun), colour),
    ]
    rng.shuffle(questions)
    return Sample(image, f"The {noun} {text} in {colour}.", tuple(questions), tuple(regions), text)


def draw_page(rng: Random, texts: list[str]) -> Sample:
    """Up to four lines without questions: many letters in one picture, for the encoder's pretraining."""
    image, pen = new_canvas(rng)
    regions: list[Region] = []
    for row, text in enumerate(texts):
        top = SIZE / PAGE_ROWS * row + rng.uniform(2, 6)
        regions += write_line(rng, pen, text, rng.choice(list(COLOURS)), top=top)
    return Sample(image, "", (), tuple(regions))


def write_line(rng: Random, pen: ImageDraw.ImageDraw, text: str, colour: str, *, top: float) -> list[Region]:
    """Write one line with its capitals' upper edge at `top` [px]; returns a region per character."""
    face = font(rng.randint(*_SIZES))
    edge = face.getbbox("H")
    left = rng.uniform(1, SIZE - 1 - ADVANCE * len(text))
    fill = paint(rng, colour)
    regions = []
    for index, character in enumerate(text, start=1):
        width = face.getlength(character)
        slack = min(_JITTER, abs(ADVANCE - width) / 2)
        x = left + ADVANCE * (index - 0.5) - width / 2 + rng.uniform(-slack, slack)
        pen.text((x, top - edge[1]), character, font=face, fill=fill)
        labels = {"thing": character, "colour": colour, "number": index}
        regions.append(Region((x, top, x + width, top + edge[3] - edge[1]), labels))
    return regions


def noun_of(text: str) -> str:
    """What a written text is called in questions."""
    return "number" if text.isdigit() else "word"
