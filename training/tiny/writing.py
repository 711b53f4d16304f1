"""A short word or a number written in a picture: the kinds words and digits."""

from __future__ import annotations

from random import Random

from PIL import ImageDraw

from .scene import COLOURS, SIZE, DrawnQuestion, Region, Sample, font, new_canvas, paint

ADVANCE = 28  # pixels from letter to letter: one merged patch
_JITTER = 3  # pixels that each letter stands off its place, left or right; and the line, up or down
_SIZES = (27, 31)  # of the font; capitals are about 20 pixels high
PAGE_ROWS = 4


def draw_writing(rng: Random, text: str) -> Sample:
    """``text`` (three letters or digits) somewhere in the picture, in one colour."""
    image, pen = new_canvas(rng)
    colour = rng.choice(list(COLOURS))
    regions = write_line(rng, pen, text, colour, row=rng.randrange(PAGE_ROWS))
    noun = noun_of(text)
    questions = [
        DrawnQuestion("digits" if noun == "number" else "words", f"What {noun} is written?", text),
        DrawnQuestion("text-colour", f"What colour is the {noun}?", colour),
    ]
    rng.shuffle(questions)
    return Sample(image, f"The {noun} {text} in {colour}.", tuple(questions), tuple(regions), text)


def draw_page(rng: Random, texts: list[str]) -> Sample:
    """Up to four lines without questions: many letters in one picture, since reading is what takes longest to learn."""
    image, pen = new_canvas(rng)
    regions: list[Region] = []
    for row, text in enumerate(texts):
        regions += write_line(rng, pen, text, rng.choice(list(COLOURS)), row=row)
    return Sample(image, f"Lines: {' '.join(texts)}.", (), tuple(regions))


def write_line(rng: Random, pen: ImageDraw.ImageDraw, text: str, colour: str, *, row: int) -> list[Region]:
    """Write one line in ``row`` (0..3), a letter about each merged patch; returns a region per character."""
    face = font(rng.randint(*_SIZES))
    edge = face.getbbox("H")
    top = ADVANCE * (row + 0.5) - (edge[3] - edge[1]) / 2 + rng.uniform(-_JITTER, _JITTER)
    left = ADVANCE * rng.randint(0, SIZE // ADVANCE - len(text))
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
