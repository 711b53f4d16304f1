"""Short words and numbers written in a picture, one or two lines: the kinds words and digits."""

from __future__ import annotations

from random import Random

from PIL import ImageDraw

from .scene import COLOURS, SIZE, Question, Region, Sample, font, new_canvas, one_of, paint

_LINE_PLACES = ("top", "bottom")
_MARGIN = 4  # pixels that stay free at each side
_TRACKING = 2.0  # pixels between letters: two at most fall into one merged patch

_ASK_WORD = ("What word is written?", "Read the word.")
_ASK_NUMBER = ("What number is written?", "Read the number.")
_ASK_WORD_AT = ("What word is at the {place}?",)
_ASK_NUMBER_AT = ("What number is at the {place}?",)
_ASK_COLOUR = ("What colour is the {noun}?",)
_ASK_LENGTH = ("How many {parts} does the {noun} have?",)


def draw_writing(rng: Random, texts: list[str]) -> Sample:
    """`texts` (one or two, letters or digits), one a line, each in a colour and size of its own."""
    image, pen = new_canvas(rng)
    colours = [rng.choice(list(COLOURS)) for _ in texts]
    regions: list[Region] = []
    height = SIZE / len(texts)
    for line, (text, colour) in enumerate(zip(texts, colours, strict=True)):
        regions += write_line(rng, pen, text, colour, top=line * height, height=height)
    caption = " ".join(
        f"The {_noun(text)} {text} in {colour}" + (f" at the {place}." if len(texts) == 2 else ".")
        for text, colour, place in zip(texts, colours, _LINE_PLACES, strict=False)
    )
    return Sample(image, caption, tuple(_ask(rng, texts, colours)), tuple(regions), tuple(texts))


def draw_page(rng: Random, texts: list[str]) -> Sample:
    """Lines of writing without questions: many letters in one picture, for the encoder's pretraining."""
    image, pen = new_canvas(rng)
    regions: list[Region] = []
    height = SIZE / len(texts)
    for line, text in enumerate(texts):
        regions += write_line(rng, pen, text, rng.choice(list(COLOURS)), top=line * height, height=height)
    return Sample(image, "", (), tuple(regions), tuple(texts))


def write_line(
    rng: Random, pen: ImageDraw.ImageDraw, text: str, colour: str, *, top: float, height: float
) -> list[Region]:
    """Write one line somewhere in the band [top, top + height); returns a region per character."""
    room = SIZE - 2 * _MARGIN
    size = rng.randint(24, 32)
    while _width(text, size) > room:
        size -= 1
    face = font(size)
    ascent = face.getbbox("H")
    glyph_height = ascent[3] - ascent[1]
    x = rng.uniform(_MARGIN, SIZE - _MARGIN - _width(text, size))
    y = rng.uniform(top + 2, top + height - 2 - glyph_height)
    fill = paint(rng, colour)
    regions = []
    for index, character in enumerate(text, start=1):
        advance = face.getlength(character)
        pen.text((x, y - ascent[1]), character, font=face, fill=fill)
        labels = {"thing": character, "colour": colour, "number": index, "total": len(text)}
        regions.append(Region((x, y, x + advance, y + glyph_height), labels))
        x += advance + _TRACKING
    return regions


def _width(text: str, size: int) -> float:
    return sum(font(size).getlength(character) + _TRACKING for character in text) - _TRACKING


def _noun(text: str) -> str:
    return "number" if text.isdigit() else "word"


def _ask(rng: Random, texts: list[str], colours: list[str]) -> list[Question]:
    questions = []
    for text, colour, place in zip(texts, colours, _LINE_PLACES, strict=False):
        noun = _noun(text)
        kind = "digits" if noun == "number" else "words"
        alone = sum(_noun(other) == noun for other in texts) == 1
        read, read_at = (_ASK_NUMBER, _ASK_NUMBER_AT) if noun == "number" else (_ASK_WORD, _ASK_WORD_AT)
        asked = one_of(rng, read) if alone else one_of(rng, read_at, place=place)
        questions.append(Question(kind, asked, text))
        if alone:
            parts = "digits" if noun == "number" else "letters"
            questions.append(Question("text-colour", one_of(rng, _ASK_COLOUR, noun=noun), colour))
            questions.append(Question("text-length", one_of(rng, _ASK_LENGTH, parts=parts, noun=noun), str(len(text))))
    rng.shuffle(questions)
    return questions
